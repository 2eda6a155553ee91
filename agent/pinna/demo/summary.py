"""What the demonstration proved, in words."""

from __future__ import annotations

from pinna.demo.run import Proof


def text(proof: Proof) -> str:
    def figure(value: float | None, unit: str) -> str:
        return "not measured" if value is None else f"{value:g} {unit}"

    lines = [
        f"In {proof.seconds:g} s, through real PortAudio, ALSA, Opus, WebRTC and HTTP:",
        f"  microphone -> hub    {proof.hub_frames_received} frames came, {proof.mic_frames_sent} were sent; "
        f"the hub heard speech in {proof.hub_speech_frames}",
        f"  hub -> loudspeaker   {proof.tts_frames_played} frames played, {proof.tts_frames_received} came",
        f"  latency              {figure(proof.latency_ms_p50, 'ms')} median, "
        f"{figure(proof.latency_ms_p99, 'ms')} 99th percentile, microphone frame to hub",
        f"  echo                 {figure(proof.erle_db, 'dB')} less than without the canceller (ERLE), "
        f"found {figure(proof.echo_delay_ms and round(proof.echo_delay_ms, 1), 'ms')} late",
        f"  the agent            {figure(proof.cpu_percent, '%')} of one core, {figure(proof.rss_mb, 'MB')}",
    ]
    if proof.proven:
        lines.append(
            "Proven: it hears, and it speaks. Too short to prove more."
            if proof.erle_db is None
            else "Proven: it hears, it speaks, and it does not hear itself."
        )
    else:
        lines += ["NOT proven:", *(f"  - {failure}" for failure in proof.failures)]
    return "\n".join(lines)
