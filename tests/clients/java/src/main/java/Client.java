import com.google.protobuf.NullValue;
import com.google.protobuf.Struct;
import com.google.protobuf.Value;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import userpilot_gateway.v1.IngestServiceGrpc;
import userpilot_gateway.v1.IngestServiceGrpc.IngestServiceBlockingStub;
import userpilot_gateway.v1.Ingest.GetUpdateRequest;
import userpilot_gateway.v1.Ingest.GetUpdateResponse;
import userpilot_gateway.v1.Ingest.UpdateState;
import userpilot_gateway.v1.Ingest.UpdateUserRequest;
import userpilot_gateway.v1.Types.UserUpdate;

/**
 * A service that sends its users' properties to Userpilot, by way of the gateway.
 *
 * <p>docs/clients.md has the commands that generate the contract's classes and run this.
 */
public final class Client {
    private final IngestServiceBlockingStub gateway;

    private Client(ManagedChannel channel) {
        this.gateway = IngestServiceGrpc.newBlockingStub(channel);
    }

    /** Strings, numbers and booleans; a Value of NULL_VALUE is sent as null. */
    private static UserUpdate update(String userId, Map<String, Value> properties) {
        Struct metadata = Struct.newBuilder().putAllFields(properties).build();
        return UserUpdate.newBuilder().setUserId(userId).setMetadata(metadata).build();
    }

    /** Sends one update, again and again where that helps. An answer means that it is on disk. */
    private String send(UserUpdate update) throws InterruptedException {
        UpdateUserRequest request = UpdateUserRequest.newBuilder().setUpdate(update).build();
        while (true) {
            try {
                return gateway.withDeadlineAfter(10, TimeUnit.SECONDS).updateUser(request).getReceipt();
            } catch (StatusRuntimeException refused) {
                Status.Code code = refused.getStatus().getCode();
                if (code != Status.Code.UNAVAILABLE && code != Status.Code.RESOURCE_EXHAUSTED) {
                    throw refused;
                }
                // google.rpc.RetryInfo (io.grpc.protobuf.StatusProto) says for how long.
                TimeUnit.SECONDS.sleep(1);
            }
        }
    }

    /** Asks what became of an update, until the profile in Userpilot holds it. */
    private String follow(String receipt) throws InterruptedException {
        GetUpdateRequest request = GetUpdateRequest.newBuilder().setReceipt(receipt).build();
        for (int tries = 0; tries < 600; tries++) {
            GetUpdateResponse update =
                    gateway.withDeadlineAfter(10, TimeUnit.SECONDS).getUpdate(request);
            if (update.getState() == UpdateState.UPDATE_STATE_DELIVERED) {
                return update.getDelivered().getJobId();
            }
            TimeUnit.MILLISECONDS.sleep(100);
        }
        throw new IllegalStateException("not delivered yet");
    }

    public static void main(String[] arguments) throws InterruptedException {
        // Beyond loopback: without usePlaintext(), and with a token of the gateway's as the header
        // "authorization: Bearer ..." (io.grpc.CallCredentials).
        ManagedChannel channel =
                ManagedChannelBuilder.forTarget(arguments[0]).usePlaintext().build();
        try {
            Client client = new Client(channel);
            Map<String, Value> properties = Map.of(
                    "plan", Value.newBuilder().setStringValue("pro").build(),
                    "seats", Value.newBuilder().setNumberValue(3).build(),
                    "trial", Value.newBuilder().setNullValue(NullValue.NULL_VALUE).build());
            String receipt = client.send(update("ada", properties));
            System.out.println("delivered by job " + client.follow(receipt));
        } finally {
            channel.shutdown();
        }
    }
}
