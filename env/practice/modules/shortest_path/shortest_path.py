"""Directed graphs with weights: shortest paths, reach, cycles and an order of tasks."""

import heapq
from collections import deque
from collections.abc import Iterable

Graph = dict[str, dict[str, int]]


class NoPath(LookupError):
    """The goal cannot be reached."""


def build(edges: Iterable[tuple], both_ways: bool = False) -> Graph:
    """A graph from (start, end) or (start, end, weight); a weight is 1 when not told.

    Of several edges between the same nodes the lightest counts.
    """
    graph: Graph = {}
    for start, end, *rest in edges:
        weight = rest[0] if rest else 1
        if weight < 0:
            raise ValueError(f"the weight of {start}-{end} is negative")
        _connect(graph, start, end, weight)
        if both_ways:
            _connect(graph, end, start, weight)
    return graph


def _connect(graph: Graph, start: str, end: str, weight: int) -> None:
    graph.setdefault(end, {})
    ends = graph.setdefault(start, {})
    ends[end] = min(weight, ends.get(end, weight))


def distances(graph: Graph, start: str, limit: int | None = None) -> dict[str, int]:
    """The length of the shortest path to each node that is reached within `limit`."""
    if start not in graph:
        raise KeyError(start)
    found: dict[str, int] = {}
    waiting = [(0, start)]
    while waiting:
        length, node = heapq.heappop(waiting)
        if node in found or (limit is not None and length > limit):
            continue
        found[node] = length
        for end, weight in graph[node].items():
            heapq.heappush(waiting, (length + weight, end))
    return found


def shortest_path(graph: Graph, start: str, goal: str) -> list[str]:
    """The nodes of a shortest path with both ends; NoPath where there is none."""
    lengths = distances(graph, start)
    if goal not in lengths:
        raise NoPath(f"{goal} cannot be reached from {start}")
    path = [goal]
    while path[-1] != start:
        path.append(_step_back(graph, lengths, path))
    path.reverse()
    return path


def _step_back(graph: Graph, lengths: dict[str, int], path: list[str]) -> str:
    """The alphabetically first new node from which a shortest path goes on to the last of `path`."""
    node = path[-1]
    return min(
        before
        for before in lengths
        if before not in path and node in graph[before] and lengths[before] + graph[before][node] == lengths[node]
    )


def path_length(graph: Graph, path: list[str]) -> int:
    """The weights along a path, added up."""
    total = 0
    for start, end in zip(path, path[1:]):
        if end not in graph.get(start, {}):
            raise NoPath(f"no edge from {start} to {end}")
        total += graph[start][end]
    return total


def reachable(graph: Graph, start: str, steps: int | None = None) -> list[str]:
    """Nodes in the order a breadth-first search meets them, at most `steps` edges away."""
    order, seen = [], {start}
    waiting = deque([(start, 0)])
    while waiting:
        node, depth = waiting.popleft()
        order.append(node)
        if steps is not None and depth == steps:
            continue
        for end in sorted(graph[node]):
            if end not in seen:
                seen.add(end)
                waiting.append((end, depth + 1))
    return order


def topological_order(graph: Graph) -> list[str]:
    """Each node before all that its edges point to; ValueError where the graph has a cycle."""
    incoming = dict.fromkeys(graph, 0)
    for ends in graph.values():
        for end in ends:
            incoming[end] += 1
    free = [node for node, count in incoming.items() if count == 0]
    heapq.heapify(free)
    order = []
    while free:
        node = heapq.heappop(free)
        order.append(node)
        for end in graph[node]:
            incoming[end] -= 1
            if incoming[end] == 0:
                heapq.heappush(free, end)
    if len(order) < len(graph):
        raise ValueError("the graph has a cycle")
    return order


def without(graph: Graph, node: str) -> Graph:
    """A copy of the graph without a node and its edges; the given one is left alone."""
    copied = {start: dict(ends) for start, ends in graph.items() if start != node}
    for ends in copied.values():
        ends.pop(node, None)
    return copied
