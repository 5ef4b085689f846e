"""From what a source said by GUID to what stands where.

| file | does |
|---|---|
| `front_panel.py` | the label that a person reads beside a plug, and the way back |
| `naming.py` | what a NodeDescription says: host and device, switch and module, or nothing to be trusted |
| `planes.py` | four ASICs behind one cable become one port |
| `identity.py` | which node is in which chassis: by GUID, by registry, by name, or nowhere |
| `devices.py` | `HCA-1` of a host that the design calls `mlx5_0` |
| `locate.py` | a `Sweep` becomes a `Snapshot` |
| `archive.py` | a `Snapshot` as bytes for the database, and back |
| `difference.py` | what changed from one `Snapshot` to the next |
"""
