"""What stands before every worker of a guarded node: Ray starts these scripts in place of its own.

They run with the raylet's environment, before anything of a job's runtime environment is applied or fetched, so
nothing that a job says can take them away. docs/decisions/0009 says why it is done this way.
"""
