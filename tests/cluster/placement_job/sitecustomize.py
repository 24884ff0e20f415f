import os

os.environ["SITECUSTOMIZE_OF_THE_USER"] = "ran"
