"""networkx: a graph for analysis with its algorithms."""

from __future__ import annotations

from graphray.graph.views.picture import outputs_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import networkx

    from graphray.graph.dataflow import Graph


def to_networkx(graph: Graph) -> networkx.DiGraph:
    """The graph as a frozen `networkx.DiGraph`.

    Its nodes are the `Node` objects, in topological order, with the attributes `label` (text), `task` (the task's name)
    and `outputs` (a tuple with the names of the outputs that it is, or is part of; an unnamed output's is None). Edges
    lead from a node to those that need it, in the order in which these name it.
    """
    import networkx

    outputs = outputs_of(graph)
    digraph = networkx.DiGraph()
    for node in graph.nodes:
        digraph.add_node(node, label=node.label, task=node.task.name, outputs=tuple(outputs.get(node, ())))
    digraph.add_edges_from([(d, node) for node in graph.nodes for d in node.deps])
    return networkx.freeze(digraph)
