"""A service that sends its users' properties to Userpilot, by way of the gateway.

    python generate.py PROTO_FOLDER OUTPUT_FOLDER
    PYTHONPATH=OUTPUT_FOLDER python client.py 127.0.0.1:50051
"""

import sys
import time

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from userpilot_gateway.v1 import ingest_pb2, ingest_pb2_grpc, types_pb2


def update(user_id, company_id=None, **properties):
    """Strings, numbers, booleans and None; None is sent as null."""
    update = types_pb2.UserUpdate(user_id=user_id, company_id=company_id)
    update.metadata.update(properties)
    return update


def send_one(gateway):
    """An answer means that the update is on disk. Keep the receipt to ask about it later."""
    request = ingest_pb2.UpdateUserRequest(update=update("ada", plan="pro", seats=3))
    accepted = gateway.UpdateUser(request, timeout=10)
    print("accepted as number", accepted.sequence)
    return accepted.receipt


def send_many(gateway):
    """Up to 1,000 at once. A bad one does not refuse the others."""
    updates = [
        update("bob", company_id="acme", plan="free"),
        update("", plan="free"),
        update("bob", plan=None, trial=False),
    ]
    request = ingest_pb2.UpdateUsersRequest(updates=updates)
    for result in gateway.UpdateUsers(request, timeout=10).results:
        if result.HasField("accepted"):
            print("accepted as number", result.accepted.sequence)
        else:
            fields = [violation.field for violation in result.error.violations]
            print("refused because of", *fields)


def send_a_stream(gateway, count):
    """Any number, over one stream. An answer bears the tag of the update that it answers."""

    def requests():
        for tag in range(count):
            user = update(f"user-{tag % 100}", visits=tag)
            yield ingest_pb2.StreamUserUpdatesRequest(tag=tag, update=user)

    accepted = 0
    for answer in gateway.StreamUserUpdates(requests(), timeout=60):
        if answer.HasField("accepted"):
            accepted += 1
        else:
            print("update", answer.tag, "refused:", answer.error.message)
    print(accepted, "of", count, "accepted")


def explain(error):
    """What a refusal says: which field is wrong, or when to try again."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        bad_request, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(bad_request):
            for violation in bad_request.field_violations:
                print("wrong field", violation.field + ":", violation.description)
        elif detail.Unpack(retry):
            print("try again in", retry.retry_delay.ToTimedelta())


def send_a_bad_one(gateway):
    try:
        bad = update("eve", tags=["a", "b"])
        gateway.UpdateUser(ingest_pb2.UpdateUserRequest(update=bad), timeout=10)
    except grpc.RpcError as error:
        print("refused with", error.code().name)
        explain(error)


def follow(gateway, receipt):
    """Asks what became of an update, until the profile in Userpilot holds it."""
    for _ in range(600):
        update = gateway.GetUpdate(ingest_pb2.GetUpdateRequest(receipt=receipt), timeout=10)
        if update.state == ingest_pb2.UPDATE_STATE_DELIVERED:
            print("delivered by job", update.delivered.job_id)
            return
        time.sleep(0.1)
    sys.exit("not delivered yet")


def main(address):
    with grpc.insecure_channel(address) as channel:
        gateway = ingest_pb2_grpc.IngestServiceStub(channel)
        receipt = send_one(gateway)
        send_many(gateway)
        send_a_stream(gateway, count=1_000)
        send_a_bad_one(gateway)
        follow(gateway, receipt)


if __name__ == "__main__":
    main(sys.argv[1])
