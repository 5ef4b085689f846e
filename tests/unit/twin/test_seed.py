"""The twin finds the seed in the very documents that the server renders."""

from __future__ import annotations

import pytest

from ostler.core.errors import BadInput
from ostler.provisioning import cloud_init
from ostler.provisioning.model import ProvisioningSettings, SeedFacts, Trust
from ostler.twin.netboot import fetch, seed_in

FACTS = SeedFacts("node_1", "gpu-1", "02:00:00:00:00:01", {}, "nonce-1", "token-1")
TRUST = Trust("-----BEGIN CERTIFICATE-----\nMII'quoted\n-----END CERTIFICATE-----\n", "ab" * 32, b"k" * 32)


def test_the_servers_user_data_holds_the_seed() -> None:
    settings = ProvisioningSettings(server_url="https://ostler:8472", kubernetes_api="k8s:6443")
    documents = cloud_init.render(FACTS, settings, TRUST)
    seed = seed_in(documents.user_data)
    assert (seed.server, seed.token, seed.nonce) == ("https://ostler:8472", "token-1", "nonce-1")
    assert (seed.ca_pem, seed.ca_sha256, seed.mac) == (TRUST.ca_pem, TRUST.ca_sha256, FACTS.mac)


def test_double_quoted_yaml_is_read_too() -> None:
    inner = (
        '{\\"server\\":\\"https://h\\",\\"token\\":\\"t\\",\\"nonce\\":\\"n\\",\\"ca_sha256\\":\\"' + "a" * 64 + '\\"}'
    )
    text = f'#cloud-config\nwrite_files:\n- path: /etc/ostler/seed.json\n  content: "{inner}\\n"\n'
    assert seed_in(text).server == "https://h"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "#!/bin/sh\n",
        "#cloud-config\n{}\n",
        "#cloud-config\nwrite_files:\n- path: /etc/ostler/seed.json\n  content: '{broken'\n",
        "#cloud-config\nwrite_files:\n- path: /etc/ostler/seed.json\n  content: '{\"server\":1}'\n",
        "#cloud-config\nwrite_files:\n- path: /etc/ostler/seed.json\n  content: '" + "[" * 100_000 + "'\n",
    ],
)
def test_hostile_user_data_is_one_clear_line(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        seed_in(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://h/x", "file:///etc/passwd", "http://", "http://[", "http://h:bad/"])
def test_a_boot_loader_fetches_plain_http_only(url: str) -> None:
    with pytest.raises(BadInput):
        fetch(url)
