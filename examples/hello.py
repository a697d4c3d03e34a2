"""A first graph: `python examples/hello.py`, or `graphray run examples/hello.py` to have it done on every core."""

import graphray as gr


@gr.task
def greet(name: str) -> str:
    return f"Hello, {name}!"


graph = gr.Graph(greeting=gr.combine(" ".join, gr.map(greet, ["Ada", "Emmy", "Grace"])))

if __name__ == "__main__":
    print(graph.compute()["greeting"])
