"""Prints what CloudFormation makes of a SAM template: plain resources, which cfn-lint checks more closely.

No linter reads schedule expressions, so a bad one is refused here.
Usage: expand_template.py TEMPLATE
"""

import json
import re
import sys

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse


class NoManagedPolicies:
    """The translator asks for the account's managed policies; offline there are none, and we name none."""

    def load(self):
        return {}


def is_schedule(expression: str) -> bool:
    """rate(1 minute), rate(5 minutes), or cron() with six fields and a ? for the day that is not meant."""
    if re.fullmatch(r"rate\((1 (minute|hour|day)|([2-9]|[1-9]\d+) (minutes|hours|days))\)", expression):
        return True
    cron = re.fullmatch(r"cron\(([\d*/,\-A-Z?#]+( [\d*/,\-A-Z?#]+){5})\)", expression)
    if not cron:
        return False
    minute, hour, day, month, weekday, year = cron[1].split()
    return (day == "?") != (weekday == "?") and "?" not in minute + hour + month + year


with open(sys.argv[1]) as file:
    template = yaml_parse(file)
# What is on this disk would be in a bucket by now.
for resource in template["Resources"].values():
    if "CodeUri" in resource.get("Properties", {}):
        resource["Properties"]["CodeUri"] = "s3://bucket/key"
expanded = transform(template, {}, NoManagedPolicies())
for name, resource in expanded["Resources"].items():
    if resource["Type"] == "AWS::Scheduler::Schedule":
        expression = resource["Properties"]["ScheduleExpression"]
        if not is_schedule(expression):
            sys.exit(f"{name}: EventBridge Scheduler refuses {expression}")
json.dump(expanded, sys.stdout, indent=2)
