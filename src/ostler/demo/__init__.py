"""`ostler demo`: the whole system on one machine, with a simulated fleet and a scripted hour. Run by `cli/demo.py`.

story.py     what strikes which node when, and what must have become of it
lines.py     the kernel lines that strike: recorded ones where they are at hand
stage.py     the server and the fleet as processes, their configuration, their end
technician.py  takes the tickets about cables, and does with the plugs what they say
lookout.py   looks at the whole fabric, as a collector on another host does
receiver.py  a webhook receiver that verifies what it gets
account.py   what the server says happened, collected over its API
verdict.py   the account against the story
page.py      the page for people; watch.py the progress while it runs

A face like `cli` and `http`: it uses the public commands, the API and the SDK, and no feature's inside, except for the
form in which a look at the fabric is sent (`fabric/push.py`).
"""
