"""Has ClearML's own decoder read what the webhook writes into CLEARML_AGENT_GPU_FRACTIONS: the class
GpuFractionsHandler of PyPI's clearml-agent. Ends with 0 if it finds the right shares, else with 1 and one
sentence that names the first difference.

    python check_fractions.py FOLDER CASES

FOLDER holds the unpacked package. CASES is a JSON file, a list of {name, limits, labels, annotations, gpus,
variable, share}: what a user wrote, the GPUs that the agent sees, what the webhook wrote, and the share of GPUs
that ClearML should report.

The rest of the agent is not loaded: it needs a dozen packages for what does not matter here.
"""

import ast
import json
import logging
import os
import re
import sys
import typing

SOURCE = "clearml_agent/helper/resource_monitor.py"
CLASS = "GpuFractionsHandler"


class Variable:
    """Stands for the agent's ENV_GPU_FRACTIONS."""

    value = None

    def get(self):
        return self.value


def decoder(folder, variable):
    """The class itself, as it stands in the package."""
    path = os.path.join(folder, SOURCE)
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read(), path)
    found = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == CLASS]
    if not found:
        sys.exit(f"{SOURCE} has no class {CLASS} any more")
    names = {**vars(typing), "re": re, "log": logging, "ENV_GPU_FRACTIONS": variable, "gpustat": None}
    exec(compile(ast.Module(body=found, type_ignores=[]), path, "exec"), names)
    return names[CLASS]


def near(what, found, expected, within=1e-9):
    """The whole comparison: a difference ends the check."""
    if found is None or abs(found - expected) > within:
        sys.exit(f"{what}: expected {expected!r}, found {found!r}")


def main():
    folder, path = sys.argv[1:]
    variable = Variable()
    handler = decoder(folder, variable)
    with open(path, encoding="utf-8") as file:
        cases = json.load(file)
    for case in cases:
        name, share = case["name"], case["share"]
        variable.value = case["variable"]
        handler._get_gpu_names = staticmethod(lambda: case["gpus"])
        fractions = handler().fractions
        # A profile's memory is a rounded share of the GPU's.
        near(f"{name}, shares of all GPUs", sum(fractions), share, 0.01)
        if any(fraction > 1 for fraction in fractions):
            sys.exit(f"{name}: {variable.value} has more than a whole GPU in one item")
        # What ClearML itself makes of the user's words.
        if any(handler._number_re.match(key) for key in case["limits"]) and not case["contradicts"]:
            near(f"{name}, limits", handler.get_simple_fractions_total(case["limits"]), share)
        elif case["labels"]:
            near(f"{name}, label", handler.get_cfgi_fractions_total(case["labels"]), share)
        elif case["annotations"]:
            near(f"{name}, annotation", handler.get_custom_fractions_total(case["annotations"]), share)
    if not cases:
        sys.exit("there is nothing to check")


main()
