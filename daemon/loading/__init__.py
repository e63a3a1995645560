"""Loading: from modules with decorated classes to the core's `ProjectionSpec`s.

Below `daemon.api`, which re-exports what a projection's author needs; the daemon itself imports from here.

    declare      the decorators and the records they leave
    load         modules to specs, and what spans several projections
    compiling    one declaration to one spec
    options      the checks of @projection's options
    paths        keys and sequence numbers as closures
    handlers     methods to handlers and chained upcasters
    payloads     payloads as instances of classes
    digest       the digest of a projection's code
    guarantees   what a projection gets and what it costs
    partials     the sum of shared partial rows
    problems     what can be wrong
"""

from daemon.loading.compiling import compile_class
from daemon.loading.guarantees import Guarantee, describe
from daemon.loading.load import load_projections
from daemon.loading.partials import sum_partials
from daemon.loading.problems import Problem, ProjectionProblems

__all__ = [
    "Guarantee",
    "Problem",
    "ProjectionProblems",
    "compile_class",
    "describe",
    "load_projections",
    "sum_partials",
]
