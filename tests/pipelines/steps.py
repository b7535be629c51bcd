"""Prints what a job of a pipeline does, as JSON: a list of scripts, each of which is a shell of its own,
with the variables that the pipeline sets (`environment`) and those that it has from elsewhere (`asked`).

steps.py gitlab|github FILE JOB

Left out is what brings `herald` onto the machine, over the network, and what the runner brings (`uses`).
"""

import json
import sys

import yaml

INSTALLS = "nix profile install --inputs-from . herald#herald"


def gitlab(pipeline, job):
    assert pipeline["default"]["before_script"] == [INSTALLS]
    own = {**pipeline["variables"], **job.get("variables", {})}
    # A runner joins the lines of a job to one script.
    yield {"script": "\n".join(job["script"]), "environment": own, "asked": []}


def github(pipeline, job):
    installed = False
    for step in job["steps"]:
        if step.get("run") == INSTALLS:
            installed = True
        elif "run" in step:
            assert installed and "${{" not in step["run"], step
            own = {**pipeline["env"], **job.get("env", {}), **step.get("env", {})}
            asked = [name for name, value in own.items() if "${{" in value]
            own = {name: value for name, value in own.items() if name not in asked}
            yield {"script": step["run"], "environment": own, "asked": asked}


kind, path, job = sys.argv[1:]
with open(path, encoding="utf-8") as file:
    pipeline = yaml.safe_load(file)
steps = list(gitlab(pipeline, pipeline[job]) if kind == "gitlab" else github(pipeline, pipeline["jobs"][job]))
print(json.dumps(steps))
