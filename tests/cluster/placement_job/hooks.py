import os


def of_the_submission():
    os.environ["HOOK_OF_THE_SUBMISSION"] = "ran"


def of_ray_init():
    os.environ["HOOK_OF_RAY_INIT"] = "ran"
