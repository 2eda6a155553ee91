"""The device's side of a voice service: a microphone that ticks; gate, sessions and link, all real."""

from __future__ import annotations

from typing import Any

from tests.support.link_device import LinkDevice, until

from pinna.config import Config, HubConfig, SessionConfig, VoiceConfig
from pinna.flow.fanout import Subscription
from pinna.links import News
from pinna.links.voice_call import PATIENCE, Patience
from pinna.links.websocket import WebSocketLink
from pinna.session.gate import Gate
from pinna.session.overheard import Overheard
from pinna.session.sessions import Sessions


class VoiceDevice(LinkDevice):
    """`async with VoiceDevice(service.url) as device:` -- `start` runs the link, `sessions.open` calls."""

    def __init__(
        self,
        url: str,
        *,
        mode: str = "request",
        token: str | None = "token",
        patience: Patience = PATIENCE,
        queue_ms: int = 3500,
        **voice: Any,
    ) -> None:
        super().__init__(HubConfig())
        session = SessionConfig(mode=mode)
        config = Config(
            hub=HubConfig(url=url, dialect="websocket"), voice=VoiceConfig(**voice), session=session
        )
        self.token = token
        self.out = Subscription("link", queue_ms)
        self.gate = Gate(self.out, session.pre_roll_ms)
        overheard = Overheard(self.speaker)
        self.sessions = Sessions(session, muted=False, hub_spoke_at=lambda: overheard.spoke_at)
        self.sessions.follow(self.gate.follow)
        self.ready = 0
        news = News(ready=self._count, hung_up=lambda: self.sessions.close("hub"))
        self.link = WebSocketLink(
            config, self.out, overheard, self.gate, lambda: self.token, news, patience=patience
        )
        self.microphone = self.gate  # what the ticks go to

    def _count(self) -> None:
        self.ready += 1

    async def talking(self) -> None:
        """Start, open a session, and wait until sound flows."""
        if self.running is None:
            self.start()
        self.sessions.open("test")
        await self.connected()
        await until(lambda: self.link.stats.frames_sent > 0)

    async def failed(self) -> Exception:
        """Wait until the link has failed; its error."""
        assert self.running
        await until(self.running.done)
        error = self.running.exception()
        assert isinstance(error, Exception)
        return error
