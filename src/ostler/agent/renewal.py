"""The transport of a joined node: reports, renews its certificate in time, and joins again when nothing else is left.

`run.py` hands it to the agent, whose reports are its heartbeat: what is due is done after a report, never before a
fatal signal. The certificate is renewed once two thirds of its life are over (real time, and up to a twentieth of it
later, so that a hall that booted at once does not come back at once), with a new key, over mutual TLS with the present
one. Key and certificate change together, in one file (`join.py`), after they were seen to work; until then, and
whenever renewing fails, the present ones go on working to their end.

An identity that the server takes no longer, expired or revoked, is of no use, and only a fresh seed helps. The seed is
looked at again at every refused report (every 5 to 10 minutes, `agent.py`); one whose token was spent is not sent.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import replace

from ostler.agent import keys
from ostler.agent.join import Identity, IdentityStore, token_sha256
from ostler.agent.keys import KeyRequest
from ostler.agent.transport import HttpsTransport
from ostler.agent.validity import validity
from ostler.core.clock import iso
from ostler.core.errors import BadInput, Conflict, OstlerError, Permanent, Temporary, Unauthenticated, Unreachable
from ostler.wire.agent import ANSWER_LIMIT, JoinAnswer, Report, ReportAnswer
from ostler.wire.boot import Seed
from ostler.wire.decode import decode

RENEW_PATH = "/v1/agent/renew"
RENEW_AFTER = 2 / 3
"""Of a certificate's life."""
SPREAD = 0.05
"""Of a certificate's life, by chance on top."""
RETRY_S = (60.0, 3600.0)
"""Real seconds between tries that fail: doubling between these, with jitter. After a success the longer one, too: a
node whose clock is far ahead finds every certificate old."""

_log = logging.getLogger("ostler.agent")


class RenewingTransport:
    """`Transport` of one identity that changes under way. Not thread-safe, as the agent is not."""

    def __init__(
        self,
        identity: Identity,
        store: IdentityStore,
        *,
        real: Callable[[], float],
        server: str | None = None,
        read_seed: Callable[[], Seed] | None = None,
        join: Callable[[Seed], Identity] | None = None,
        make: Callable[[], KeyRequest] = keys.make_apart,
        ticks: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """`server` wins over the identity's. `read_seed` and `join` (which stores what comes of it) are for an identity
        that is no longer taken; without them it stays so. Raises BadInput when the identity cannot be used."""
        self._store = store
        self._real = real
        self._server = server
        self._read_seed = read_seed
        self._join = join
        self._make = make
        self._ticks = ticks
        self._rng = rng or random.Random()  # noqa: S311  jitter is no secret
        self._delay = 0.0
        self._not_before = -RETRY_S[1]
        self._tried = ""
        self._inner: HttpsTransport | None = None
        self._take(identity)

    def report(self, report: Report) -> ReportAnswer:
        assert self._inner is not None
        try:
            answer = self._inner.report(report)
        except Temporary:
            if self._real() < self._ends:
                raise
            # A server that is away cannot be told from one that ends the handshake: this clock decides what is said.
            refusal = Unauthenticated(f"this node's certificate ended at {iso(self._ends)}", where=self._inner.server)
            self._join_again(refusal)
            return self._inner.report(report)
        except Unauthenticated as refusal:
            self._join_again(refusal)
            return self._inner.report(report)
        except Permanent:
            self._keep_fresh()
            raise
        self._keep_fresh()
        return answer

    def close(self) -> None:
        if self._inner is not None:
            self._inner.close()

    # ── renewing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _take(self, identity: Identity) -> None:
        """Speaks as this identity from now on. Raises BadInput, and then still speaks as the one before."""
        begins, ends = validity(identity.certificate_pem)
        server = self._server or identity.server
        fresh = HttpsTransport(server, identity.context(), real=self._real)
        self.close()
        self._inner, self._identity, self._ends = fresh, identity, ends
        self._renew_at = begins + (ends - begins) * (RENEW_AFTER + SPREAD * self._rng.random())

    def _keep_fresh(self) -> None:
        """Renews if it is time to. Never raises: the present certificate still works."""
        if self._real() < self._renew_at or self._ticks() < self._not_before:
            return
        try:
            self._renew()
        except (OstlerError, OSError) as error:
            if not self._delay:
                until = iso(self._ends)
                _log.warning(
                    "the certificate cannot be renewed: %s; trying again, the present one is good until %s",
                    error,
                    until,
                )
            self._delay = min(RETRY_S[1], max(RETRY_S[0], self._delay * 2))
            asked = error.delay if isinstance(error, Temporary) else RETRY_S[1]
            self._not_before = self._ticks() + max(self._delay, asked) * self._rng.uniform(1.0, 1.5)
        else:
            self._delay = 0.0
            self._not_before = self._ticks() + RETRY_S[1]
            _log.info("the certificate was renewed; this one is good until %s", iso(self._ends))

    def _renew(self) -> None:
        assert self._inner is not None
        made = self._make()
        raw = self._inner.post(RENEW_PATH, made.csr_pem.encode(), "application/x-pem-file")
        try:
            answer = decode(JoinAnswer, raw, limit=ANSWER_LIMIT)
        except BadInput as error:
            raise Unreachable(f"the answer cannot be understood ({error})", where=self._inner.server) from None
        if answer.node_id != self._identity.node_id:
            raise Conflict(f"the server answers with a certificate of {answer.node_id}", where=self._inner.server)
        renewed = replace(
            self._identity, node_name=answer.node_name, key_pem=made.key_pem, certificate_pem=answer.certificate_pem
        )
        validity(renewed.certificate_pem)  # seen to work before it takes the place of one that does
        renewed.context()
        self._store.save(renewed)
        self._take(renewed)

    # ── joining again ────────────────────────────────────────────────────────────────────────────────────────────────

    def _join_again(self, refusal: Unauthenticated) -> None:
        """Joins with a seed that is new here. Raises the refusal, with what to do, when there is none; Temporary when
        the server is away."""
        helpless = Unauthenticated(
            f"{refusal.message}; boot this node again, or give it a fresh seed (ostler provision seed "
            f"{self._identity.node_name}) with --seed",
            where=refusal.where,
        )
        if self._read_seed is None or self._join is None:
            raise helpless
        try:
            seed = self._read_seed()
        except OstlerError:
            raise helpless from None
        spent = token_sha256(seed)
        if spent in (self._identity.token_sha256, self._tried):
            raise helpless
        try:
            self._take(self._join(seed))
        except Permanent as error:
            self._tried = spent
            _log.warning("the seed does not help: %s", error)
            raise helpless from None
        except OSError as error:
            _log.warning("joining again failed: the identity cannot be stored: %s", error)
            raise helpless from None
        _log.warning("joined again with a fresh seed, as %s", self._identity.node_name)
