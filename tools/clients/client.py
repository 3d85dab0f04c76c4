"""Creates, lists, inspects and removes an environment with the generated Python client."""

import sys

from daemon_client import AuthenticatedClient
from daemon_client.api.environments import (
    create_environment,
    list_environments,
    remove_environment,
    show_environment,
    show_status,
)
from daemon_client.models import EnvironmentView, NewEnvironment, Problem, RemovedView, StatusView

address, token, repo = sys.argv[1:]
client = AuthenticatedClient(base_url=f"http://{address}", token=token, timeout=120)


def new(id, key):
    body = NewEnvironment(id=id, repo=repo)
    return create_environment.sync_detailed(client=client, body=body, wait=60, idempotency_key=key)


made = new("py", "key").parsed
assert isinstance(made, EnvironmentView) and made.phase == "ready", made
assert new("py", "key").parsed.seq == made.seq, "the same request again"
other = new("py-2", "key")
assert other.status_code == 422 and isinstance(other.parsed, Problem), other
assert other.parsed.code == "idempotency_conflict", other.parsed

listed = list_environments.sync(client=client)
assert [env.id for env in listed] == ["py"], listed

status = show_status.sync("py", client=client)
assert isinstance(status, StatusView) and status.clean, status

unknown = show_environment.sync_detailed("nowhere", client=client)
problem = unknown.parsed
assert unknown.status_code == 404 and isinstance(problem, Problem), unknown
assert problem.title == "environment not found" and problem.detail == problem.message, problem
assert problem.status == 404 and problem.hint, problem

# Answered before it is done: the id is what a client needs.
started = create_environment.sync_detailed(
    client=client, body=NewEnvironment(id="py-3", repo=repo), wait=0
)
assert started.status_code in (200, 202) and started.parsed.id == "py-3", started

for id in ["py", "py-3"]:
    removed = remove_environment.sync(id, client=client, wait=60)
    assert isinstance(removed, RemovedView) and removed.phase == "tombstoned", removed
assert list_environments.sync(client=client) == []
print("python: ok")
