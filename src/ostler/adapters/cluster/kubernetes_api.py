"""One conversation with a Kubernetes API server, and its errors in our words. Used by the other `kubernetes` modules.

lightkube lists and patches. What it has no words for goes over a plain HTTP client with the same credentials: the
eviction subresource in whatever version the server offers, and deletions that name the uid of what they mean, so that
a pod of the same name that came up elsewhere in the meantime is never the one that goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NoReturn

import httpx2
import msgspec
from lightkube import Client, KubeConfig
from lightkube.config import client_adapter
from lightkube.core.client import FieldSelector
from lightkube.core.exceptions import ApiError, ConfigError
from lightkube.generic_resource import GenericGlobalResource, GenericNamespacedResource, create_api_info

from ostler.core.errors import (
    BadInput,
    Conflict,
    Forbidden,
    NotFound,
    OstlerError,
    Permanent,
    Unauthenticated,
    Unavailable,
    Unreachable,
)

PAGE = 500
"""Objects per answer of a listing."""
AT_ONCE = 16
"""Requests under way to one API server, over all drains together; its own default limit is 400 for everybody."""
_TIMEOUT = httpx2.Timeout(15.0, connect=5.0)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class Node(GenericGlobalResource):
    """A node as plain dictionaries: a field that a newer API server knows survives our writing a list back."""

    _api_info = create_api_info("", "v1", "Node", "nodes")


class Pod(GenericNamespacedResource):
    _api_info = create_api_info("", "v1", "Pod", "pods")


def is_name(text: str) -> bool:
    """Whether Kubernetes can have an object of this name; others would change the path that is asked for."""
    return _NAME.fullmatch(text) is not None


def plain(error: BaseException | str) -> str:
    """What somebody else's error says, as one short line without control characters."""
    text = "".join(c if c.isprintable() else " " for c in str(error))
    return " ".join(text.split())[:200].rstrip(".") or type(error).__name__


class Api:
    """`client` for listings and patches, `send` for the rest, `errors` around both."""

    def __init__(self, name: str, client: Client, http: httpx2.Client) -> None:
        self.name = name
        self.client = client
        self._http = http
        self.workers = ThreadPoolExecutor(AT_ONCE, thread_name_prefix=f"cluster-{name}")

    @classmethod
    def from_kubeconfig(cls, name: str, path: str | None, context: str | None) -> Api:
        """From a kubeconfig file and one of its contexts; without a path, from the pod's own service account."""
        where = path or "the service account"
        try:
            config = KubeConfig.from_file(path) if path else KubeConfig.from_service_account()
            chosen = config.get(context)
            if chosen is None:
                raise BadInput(f"There is no context {context or 'set as current'!r}.", where=where)
            client = Client(config=chosen, timeout=_TIMEOUT, field_manager="ostler", trust_env=False)
            http = client_adapter.Client(chosen, client_adapter.ConnectionParams(timeout=_TIMEOUT, trust_env=False))
        except ConfigError as error:
            raise BadInput(f"The Kubernetes configuration cannot be used: {plain(error)}.", where=where) from None
        except OstlerError:
            raise
        except OSError as error:
            raise BadInput(f"It cannot be read: {error.strerror or plain(error)}.", where=where) from None
        except Exception as error:  # a YAML file can be wrong in every way there is
            raise BadInput(f"This is no kubeconfig ({type(error).__name__}).", where=where) from None
        return cls(name, client, http)

    def close(self) -> None:
        self.workers.shutdown(cancel_futures=True)
        self.client.close()
        self._http.close()

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: str) -> dict[str, Any]:
        """One request; the answer's document. Raises `ApiError` as lightkube does; call it within `errors`."""
        answer = self._http.request(method, path, json=body, params=query)
        if answer.is_error:
            if answer.headers.get("Content-Type", "").startswith("application/json"):
                raise ApiError(request=answer.request, response=answer)
            answer.raise_for_status()
        found = answer.json()
        if not isinstance(found, dict):
            raise TypeError
        return found

    def node(self, name: str) -> Node | None:
        if not is_name(name):
            return None
        try:
            return self.client.get(Node, name)
        except ApiError as error:
            if error.status.code == 404:
                return None
            raise

    def pods(self, node: str | None = None) -> Iterator[Pod]:
        """The pods of every namespace that stand on this node, or on any."""
        fields: FieldSelector | None = None if node is None else {"spec.nodeName": node}
        yield from self.client.list(Pod, namespace="*", chunk_size=PAGE, fields=fields)

    def pod(self, namespace: str, name: str) -> Pod | None:
        try:
            return self.client.get(Pod, name, namespace=namespace)
        except ApiError as error:
            if error.status.code == 404:
                return None
            raise

    def delete_pod(self, namespace: str, name: str, uid: str, grace_s: int | None) -> bool:
        """Delete exactly this pod; False when it is gone. `grace_s` None: its own; 0: not waiting for its node."""
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        try:
            self.send("DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}", options)
        except ApiError as error:
            if error.status.code in (404, 409):  # 409: the uid is another's, so ours is gone
                return False
            raise
        return True

    @contextmanager
    def errors(self) -> Iterator[None]:
        """The client's errors in our words."""
        try:
            yield
        except ApiError as error:
            self._refused(error)
        except httpx2.HTTPStatusError as error:
            raise Unavailable(f"The API server answered HTTP {error.response.status_code}.", where=self.name) from None
        except httpx2.TimeoutException:
            raise Unreachable("The API server does not answer: no answer in time.", where=self.name) from None
        except httpx2.TransportError as error:
            raise Unreachable(f"The API server does not answer: {plain(error)}.", where=self.name) from None
        except ConfigError as error:
            raise Permanent(f"The credentials cannot be had: {plain(error)}.", where=self.name) from None
        except (msgspec.MsgspecError, ValueError, KeyError, TypeError, AttributeError, httpx2.HTTPError):
            raise BadInput("What answers here is no Kubernetes API server.", where=self.name) from None

    def _refused(self, error: ApiError) -> NoReturn:
        code, said = error.status.code or 0, plain(error)
        if code == 401:
            raise Unauthenticated("The API server does not know these credentials.", where=self.name) from None
        if code == 403:
            raise Forbidden(f"The API server forbids it: {said}.", where=self.name) from None
        if code == 404:
            raise NotFound(f"{said}.", where=self.name) from None
        if code == 409:
            raise Unavailable("The object keeps changing under us.", where=self.name, delay=2.0) from None
        if code == 410:
            raise Unavailable("The listing took so long that it expired.", where=self.name, delay=2.0) from None
        if code == 429 or code >= 500:
            raise Unavailable(f"The API server is busy (HTTP {code}): {said}.", where=self.name) from None
        raise Conflict(f"The API server refuses (HTTP {code}): {said}.", where=self.name) from None
