"""Interlaced frames, two moments in the alternate rows of one picture, as whole ones.

A player does this, and a face that moves has combs at its edges without it. libav's `bwdif` rebuilds the rows of the
later moment from the frames around; the number of frames and their times stay. Frames that do not say that they are
interlaced are left as they are, and a video without any never meets the filter.
"""

from collections import deque


class Deinterlacer:
    """Takes frames in the order in which they are shown; gives them back, later by one once one was interlaced."""

    def __init__(self):
        self._graph, self._last, self._times = None, None, deque()
        self._unasked = 0  # frames in the filter that are only there for the one behind them

    def add(self, time: float, frame) -> list[tuple[float, object]]:
        """Takes PyAV's frame that is shown at `time`; returns those that are ready, with their times."""
        before, self._last = self._last, frame
        ready = []
        if self._graph is not None and _shape(before) != _shape(frame):
            ready = self.finish()
            self._last = frame
        if self._graph is None:
            if not frame.interlaced_frame:
                return [*ready, (time, frame)]
            self._graph = _graph(frame)
            if before is not None and _shape(before) == _shape(frame):  # the rows between are made of it too
                self._graph.vpush(before)
                self._unasked = 1
        self._times.append(time)
        self._graph.vpush(frame)
        return ready + self._ready()

    def finish(self) -> list[tuple[float, object]]:
        """The frames that are left; what comes afterwards is another video."""
        if self._graph is None:
            return []
        self._graph.vpush(None)
        ready = self._ready()
        self._graph, self._last, self._unasked = None, None, 0
        self._times.clear()
        return ready

    def _ready(self):
        import av

        ready = []
        while True:
            try:
                frame = self._graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return ready
            if self._unasked:
                self._unasked -= 1
            else:
                ready.append((self._times.popleft(), frame))


def _shape(frame) -> tuple:
    return frame.width, frame.height, frame.format.name


def _graph(frame):
    from av.filter import Graph

    graph = Graph()
    graph.threads = 1  # there is a worker for every core
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or None
    )
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph
