"""DynamoDB's five kinds of expression: parsed by a real grammar, compiled once, bound to each request's values."""

from daemon.testing.dynamodb.expressions.binding import Expressions
from daemon.testing.dynamodb.expressions.conditions import Condition
from daemon.testing.dynamodb.expressions.documents import Tree, projected, tree_of
from daemon.testing.dynamodb.expressions.reading import KeyCondition, KeyTerm, Projection
from daemon.testing.dynamodb.expressions.updates import Update

__all__ = [
    "Condition",
    "Expressions",
    "KeyCondition",
    "KeyTerm",
    "Projection",
    "Tree",
    "Update",
    "projected",
    "tree_of",
]
