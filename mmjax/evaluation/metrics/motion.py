"""Motion: whether anything moves, how much, and whether it moves smoothly.

DynamicDegree     VBench's yes or no, with Farneback where VBench has RAFT
FastestMotion     the number behind it
SignedAmplitude   OpenS2V's, in which opposite motions cancel
MeanSpeed         the same without the cancelling
Smoothness        VBench's formula, with interpolation by flow where VBench has AMT

No amount of motion is better by itself, whatever leaderboards say: a camera that shakes has most. Real clips of the
same kind, as a system of their own, tell how much there should be. All read one measurement of the video
(`optical_flow.py`) and carry the flow's name in theirs, since figures of two flows do not compare. A 49-frame 480x720
clip takes 0.65 s of one core at 8 frames a second and at 25, all five together. Another flow is handed in,
`metrics(flow=raft, flow_name="raft")`, and sees frames as they are.
"""

import dataclasses
from collections.abc import Callable

from mmjax.evaluation.metrics.interface import PIXELS, MeanOverVideos, Metric, Score, VideoToScore, not_computed
from mmjax.evaluation.metrics.optical_flow import FLOW_SIDE, Flow, Motion, farneback, measure_motion
from mmjax.evaluation.metrics.over_time import PACE, step_at, too_sparse

THRESHOLD = 6.0  # pixels of a picture whose shorter side is 256: a pair of frames with more moves, for VBench
_SHARE_MOVING = 4 / 16  # of the frames that VBench looks at, so many pairs have to move
_SPARSEST = PACE / 2  # frames a second


def metrics(flow: Flow | None = None, full_size: bool = False, flow_name: str = "") -> list[Metric]:
    """The metrics of motion.

    Args:
      flow: from two RGB frames to pixels (right, down); Farneback if None. It has to travel to worker processes: a
        function of a module, or an object that can be pickled.
      full_size: whether Farneback sees frames as they are, as published, and not reduced. Another flow always does.
      flow_name: of the flow, in the metrics' names; that of the function where it is "".
    """
    side = FLOW_SIDE if flow is None and not full_size else None
    flow = flow or farneback
    settings = {"flow": flow, "side": side, "flow_name": flow_name or getattr(flow, "__name__", type(flow).__name__)}
    return [kind(**settings) for kind in (DynamicDegree, FastestMotion, SignedAmplitude, MeanSpeed, Smoothness)]


@dataclasses.dataclass(frozen=True)
class _OfMotion(MeanOverVideos):
    """What the metrics of this file share: the flow, and a measurement of the video with it."""

    flow: Flow
    side: int | None
    flow_name: str
    better: str = ""
    needs: frozenset[str] = frozenset({PIXELS})
    version: int = 1

    def _of(self, case: VideoToScore, frames: int, read: Callable[[Motion], Score]) -> Score:
        """A score from the measurement, where the video has so many frames."""
        found = len(case.video.frames)
        if found < frames:
            return not_computed(f"{found} frames; this needs a video of {frames} or more")
        return read(measure_motion(case.video, self.flow, self.side))


@dataclasses.dataclass(frozen=True)
class DynamicDegree(_OfMotion):
    """1 where enough pairs of frames move fast somewhere, 0 otherwise; over videos it is the share that moves.

    As VBench: frames about 1/8 s apart; a pair moves where the mean of the fastest twentieth of its flow is above
    6 min(h, w) / 256 pixels; a video does where round(n / 4) pairs of n frames do. VBench's flow is RAFT's, for which
    its threshold was set. It says that something moves, camera or person; it does not say what, or whether well.
    `series` is `FastestMotion`'s.
    """

    rate = True

    @property
    def name(self) -> str:
        return f"dynamic_degree/{self.flow_name}"

    @property
    def title(self) -> str:
        return f"dynamic degree: videos that move, share, by {self.flow_name}"

    def score(self, case: VideoToScore) -> Score:
        if why := _sparser_than_vbench(case):
            return not_computed(why)
        return self._of(case, 2, self._decide)

    def _decide(self, motion: Motion) -> Score:
        moving, frames = int((motion.fastest > THRESHOLD).sum()), len(motion.fastest) + 1
        needed = max(1, round(_SHARE_MOVING * frames))
        return Score(float(moving >= needed), motion.fastest.tolist(), details={"pairs": moving, "needed": needed})


@dataclasses.dataclass(frozen=True)
class FastestMotion(_OfMotion):
    """Mean flow of the fastest twentieth of the pixels, in pixels of a picture whose shorter side is 256, per 1/8 s.

    What the dynamic degree compares with 6, by pair in `series`. It says how fast the fastest part moves, and does not
    tell a head from a curtain, nor from the camera.
    """

    @property
    def name(self) -> str:
        return f"fastest_motion/{self.flow_name}"

    @property
    def title(self) -> str:
        return f"flow of the fastest 5 % in 1/8 s, pixels at a shorter side of 256, by {self.flow_name}"

    def score(self, case: VideoToScore) -> Score:
        if why := _sparser_than_vbench(case):
            return not_computed(why)
        return self._of(case, 2, lambda motion: Score(float(motion.fastest.mean()), motion.fastest.tolist()))


@dataclasses.dataclass(frozen=True)
class SignedAmplitude(_OfMotion):
    """Mean of the signed flow from frame to frame over pixels, both directions and time, of which the absolute value.

    OpenS2V's motion amplitude, in pixels of the video, larger in a larger picture; its resizing of the flow to a width
    of 16 changes no mean and is left out. Its own figures are those of `metrics(full_size=True)`, from which those of
    reduced frames differ by up to several times. It says how far everything together drifts; opposite motions cancel,
    of two halves, of two moments, and of right and up, so that a mirrored video has another figure. Where frames
    between those looked at were left out, what was found is divided among them. `series` is signed, by pair.
    """

    @property
    def name(self) -> str:
        return f"signed_amplitude/{self.flow_name}"

    @property
    def title(self) -> str:
        return f"OpenS2V's motion amplitude: absolute mean of the signed flow, pixels a frame, by {self.flow_name}"

    def score(self, case: VideoToScore) -> Score:
        def read(motion: Motion) -> Score:
            frames = int(case.video.numbers[-1] - case.video.numbers[0])
            return Score(float(abs(motion.drifts.sum()) / frames), motion.drifts.tolist())

        return self._of(case, 2, read)


@dataclasses.dataclass(frozen=True)
class MeanSpeed(_OfMotion):
    """Mean length of the flow between neighbouring frames, in percent of the picture's shorter side a second.

    The amplitude without the cancelling, and without the size of the picture: it says how much moves in all, the camera
    included, and not in which direction. `series` is by pair, in percent of the shorter side.
    """

    @property
    def name(self) -> str:
        return f"mean_speed/{self.flow_name}"

    @property
    def title(self) -> str:
        return f"mean length of the flow, % of the picture's shorter side a second, by {self.flow_name}"

    def score(self, case: VideoToScore) -> Score:
        def read(motion: Motion) -> Score:
            span = float(case.video.seconds[-1] - case.video.seconds[0])
            if span <= 0:
                return not_computed("all frames have one time; write the video with its frames a second")
            series = 100 * motion.speeds
            return Score(float(series.sum() / span), series.tolist())

        return self._of(case, 2, read)


@dataclasses.dataclass(frozen=True)
class Smoothness(_OfMotion):
    """(255 - mean absolute error) / 255 of frames as predicted from those about 1/8 s before and after.

    VBench's formula; its prediction is AMT's, a network for interpolation, where this moves both frames by half of the
    flow between them, and its frames are neighbours at whatever pace, so that figures do not stand beside VBench's. It
    says whether motion goes on as it began: it falls with jumps, shuffled frames, flicker and noise, and with fast
    motion too. A frozen video is perfectly smooth, so that neither side is better by itself: be near to real clips, and
    read it beside `DynamicDegree`. `series` is by predicted frame.
    """

    version: int = 2

    @property
    def name(self) -> str:
        return f"smoothness/{self.flow_name}"

    @property
    def title(self) -> str:
        return f"motion smoothness: (255 - error of predicted frames) / 255, by {self.flow_name}"

    def score(self, case: VideoToScore) -> Score:
        def read(motion: Motion) -> Score:
            if not len(motion.errors):
                return not_computed(f"{len(case.video.frames)} frames; smoothness needs a video of 1/4 s or more")
            series = (255 - motion.errors) / 255
            return Score(float(series.mean()), series.tolist())

        if len(case.video.frames) >= 3 and (why := too_sparse(case.video.seconds)):
            return not_computed(why)
        return self._of(case, 3, read)


def _sparser_than_vbench(case: VideoToScore) -> str:
    """Why VBench's pairs cannot be had, where frames were left out; "" where they can. A video's own pace will do."""
    left_out = case.video.total > len(case.video.frames)
    if left_out and case.video.rate / step_at(case.video.seconds) < _SPARSEST:
        return (
            f"needs about {PACE:g} frames a second, {case.video.rate:.1f} were looked at; look at more frames, or at "
            "all of them"
        )
    return ""
