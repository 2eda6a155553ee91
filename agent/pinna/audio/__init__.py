"""The PortAudio world: cards, the duplex callback, the echo canceller, the DSP thread, playback."""
