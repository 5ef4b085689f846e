"""`[clusters.NAME]`: what is refused at the start, with the line that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostler import ground
from ostler.config import load
from ostler.core.errors import BadInput


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[clusters.a]\nkind = "nomad"\n', "FILE:2 [clusters.a] kind: 'nomad' is no kind of cluster"),
        ('[clusters.a]\nkind = "slurm"\nkubeconfig = "/x"\n', "FILE:3 [clusters.a] kubeconfig: kubeconfig is no key"),
        (
            '[clusters.a]\nidle_partition = "idle"\n',
            "FILE:2 [clusters.a] idle_partition: idle_partition is no key of a",
        ),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "ostler.toml"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        load(path, {})
    assert str(caught.value).replace(str(path), "FILE").startswith(says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[clusters.hpc]\nkind = "slurm"\nbin = "/no/such"\n', r"\[clusters.hpc\] bin: No scontrol in /no/such"),
        (
            '[clusters.hpc]\nkind = "slurm"\nslurm_conf = "/no/such"\n',
            r"\[clusters.hpc\] slurm_conf: slurm.conf cannot",
        ),
        ('[clusters.none]\nkind = "slurm"\n', r"\[clusters.none\]: The name none is that of no cluster"),
    ],
)
def test_what_is_not_there_is_said_before_anything_starts(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "ostler.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=says):
        ground.clusters(load(path, {}))


def test_a_slurm_is_opened_and_can_be_adopted_from(tmp_path: Path) -> None:
    for tool in ("scontrol", "squeue", "scancel", "sbatch"):
        (tmp_path / tool).write_text("#!/bin/sh\n")
        (tmp_path / tool).chmod(0o755)
    path = tmp_path / "ostler.toml"
    path.write_text(f'[clusters.hpc]\nkind = "slurm"\nbin = "{tmp_path}"\n[pools.default]\ncluster = "hpc"\n')
    config = load(path, {})
    clusters = ground.clusters(config)
    assert set(clusters) == {"none", "hpc"}
    assert ground.adopt_sources(config, clusters) == {"slurm:hpc": clusters["hpc"]}
