"""ExecutorSuite: all parts together."""

from __future__ import annotations

from graphray.testing.parts.arrays import Arrays
from graphray.testing.parts.caching import Caching
from graphray.testing.parts.context import InsideTasks
from graphray.testing.parts.defaults import Defaults
from graphray.testing.parts.dynamic import Dynamic
from graphray.testing.parts.failures import Failures
from graphray.testing.parts.fan import Fan
from graphray.testing.parts.gangs import Gangs
from graphray.testing.parts.growing import Growing
from graphray.testing.parts.inputs import Inputs
from graphray.testing.parts.iteration import Iteration
from graphray.testing.parts.pickling import Pickling
from graphray.testing.parts.resources import Resources
from graphray.testing.parts.retrying import Retrying
from graphray.testing.parts.runs import Runs
from graphray.testing.parts.seeds import Seeds
from graphray.testing.parts.structures import Structures
from graphray.testing.parts.values import Values


class ExecutorSuite(
    Values,
    Structures,
    Fan,
    Dynamic,
    Iteration,
    Seeds,
    Inputs,
    Failures,
    Retrying,
    Resources,
    Gangs,
    Pickling,
    Arrays,
    InsideTasks,
    Runs,
    Growing,
    Caching,
    Defaults,
):
    """The conformance suite: subclass it, set `capabilities`, and override the fixture `executor`.

    The fixture may have the scope "class", so that one engine serves all tests: that it stays usable is part of what is
    tested. Override `other()` where `capabilities.spec` cannot make a second one.
    """
