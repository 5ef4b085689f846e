"""A real Kubernetes API server on loopback, with etcd, for the tests that need one.

The server's binary is looked for in $OSTLER_TEST_KUBERNETES, then in ../shared/kubernetes (compressed, with checksums),
then in the user's cache, where an unpacked copy is kept. etcd is Debian's `etcd-server`. `Absent` says what is missing.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import json
import lzma
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_REPOSITORY = Path(__file__).parent.parent
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ostler" / "kubernetes"


class Absent(Exception):
    """A part that the tests need is not on this machine; the text says which."""


def binary(name: str) -> Path:
    """The path of an executable such as `kube-apiserver`, unpacked into the cache when it comes compressed."""
    configured = os.environ.get("OSTLER_TEST_KUBERNETES")
    for folder in [Path(configured)] if configured else [_REPOSITORY.parent / "shared" / "kubernetes", _CACHE]:
        if (plain := folder / name).is_file():
            return plain
        if (packed := folder / f"{name}.xz").is_file():
            return _unpack(packed, name)
    raise Absent(f"no {name} in $OSTLER_TEST_KUBERNETES, ../shared/kubernetes or {_CACHE}")


def _unpack(packed: Path, name: str) -> Path:
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()
    if f"{digest}  {packed.name}" not in (packed.parent / "SHA256SUMS").read_text().splitlines():
        raise Absent(f"{packed} does not have the checksum that SHA256SUMS names")
    plain = _CACHE / f"{name}-{digest[:12]}"
    if not plain.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        draft = plain.with_suffix(f".{os.getpid()}")
        with lzma.open(packed) as source, draft.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        draft.chmod(0o755)
        draft.replace(plain)
    return plain


@contextmanager
def controlled(kubeconfig: Path) -> Iterator[None]:
    """The scheduler, and the controllers of disruption budgets and of nodes that are lost."""
    quiet = [f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--port=0", "--secure-port=0"]
    commands = [
        [str(binary("kube-scheduler")), "--address=127.0.0.1", *quiet],
        [
            str(binary("kube-controller-manager")),
            "--bind-address=127.0.0.1",
            "--controllers=disruption,nodelifecycle",
            "--use-service-account-credentials=false",
            *quiet,
        ],
    ]
    with ExitStack() as stack:
        for command in commands:
            stack.enter_context(_process(command, kubeconfig.parent))
        yield


@contextmanager
def hollow_node(kubeconfig: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A real kubelet over containers that do not exist (kubemark). Ready in about 11 s; needs root for /dev/kmsg."""
    if os.geteuid() != 0:
        raise Absent("a hollow node reads /dev/kmsg, which needs root")
    folder = kubeconfig.parent / name
    folder.mkdir()
    command = [
        str(binary("kubemark")),
        "--morph=kubelet",
        f"--name={name}",
        f"--kubeconfig={kubeconfig}",
        f"--kubelet-port={_free_port()}",
        "--kubelet-read-only-port=0",
    ]
    with _process(command, folder, TMPDIR=str(folder)) as process:
        yield process


@contextmanager
def _process(command: list[str], folder: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env={**os.environ, **environment})
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@contextmanager
def running(folder: Path) -> Iterator[Path]:
    """etcd and an API server over `folder`; yields the administrator's kubeconfig. Ready in about 4 s."""
    etcd = shutil.which("etcd")
    if etcd is None:
        raise Absent("no etcd on this machine; install the Debian package etcd-server")
    apiserver = binary("kube-apiserver")
    _certificates(folder)
    client, peer, secure = _free_port(), _free_port(), _free_port()
    store = f"http://127.0.0.1:{client}"
    commands = [
        [
            etcd,
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={store}",
            f"--advertise-client-urls={store}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        ],
        [
            str(apiserver),
            f"--etcd-servers={store}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={secure}",
            f"--tls-cert-file={folder / 'serving.crt'}",
            f"--tls-private-key-file={folder / 'serving.key'}",
            f"--client-ca-file={folder / 'ca.crt'}",
            f"--service-account-key-file={folder / 'sa.key'}",
            f"--service-account-signing-key-file={folder / 'sa.key'}",
            "--service-account-issuer=https://127.0.0.1",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=Node,RBAC",
            "--endpoint-reconciler-type=none",
            "--disable-admission-plugins=ServiceAccount",
        ],
    ]
    processes: list[subprocess.Popen[bytes]] = []
    with (folder / "log").open("wb") as log:
        try:
            for command in commands:
                processes.append(subprocess.Popen(command, cwd=folder, stdout=log, stderr=log))
            _wait_ready(folder, secure, processes)
            yield _kubeconfig(folder, secure)
        finally:
            for process in reversed(processes):
                process.kill()
                process.wait()


def _wait_ready(folder: Path, port: int, processes: list[subprocess.Popen[bytes]]) -> None:
    tls = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    tls.load_cert_chain(folder / "admin.crt", folder / "admin.key")
    deadline = time.monotonic() + 120
    while True:
        if time.monotonic() > deadline or any(process.poll() is not None for process in processes):
            raise RuntimeError(f"Kubernetes did not start: {(folder / 'log').read_text(errors='replace')[-3000:]}")
        try:
            with urllib.request.urlopen(f"https://127.0.0.1:{port}/readyz", context=tls, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.1)


def _kubeconfig(folder: Path, port: int) -> Path:
    certificate = {"client-certificate": str(folder / "admin.crt"), "client-key": str(folder / "admin.key")}
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(folder / "ca.crt")}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "admin", "user": certificate}, {"name": "nobody", "user": {"token": "no-such-token"}}],
        "contexts": [
            {"name": "admin", "context": {"cluster": "c", "user": "admin"}},
            {"name": "nobody", "context": {"cluster": "c", "user": "nobody"}},
        ],
        "current-context": "admin",
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _certificates(folder: Path) -> None:
    """`ca`, `serving` and `admin` (group system:masters) as PEM pairs, and the key for service accounts."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test-ca")])
    ca = _builder(ca_name, ca_name, ca_key).add_extension(x509.BasicConstraints(True, None), True)
    _write(folder, "ca", ca.sign(ca_key, hashes.SHA256()), ca_key)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    admin = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters")]
    for name, attributes, usage in (
        ("serving", [], ExtendedKeyUsageOID.SERVER_AUTH),
        ("admin", admin, ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, ca_name, key).add_extension(x509.ExtendedKeyUsage([usage]), False)
        if name == "serving":
            builder = builder.add_extension(here, False)
        _write(folder, name, builder.sign(ca_key, hashes.SHA256()), key)
    (folder / "sa.key").write_bytes(_pem(rsa.generate_private_key(65537, 2048)))


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=2))
    )


def _write(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(_pem(key))


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain)
