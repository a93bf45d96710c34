"""A public HTTPS address through an embedded Tailscale Funnel; `Funnel` is the way in (docs/funnel.md)."""

from repo_guardian.bridge.funnel import Funnel

__all__ = ["Funnel"]
