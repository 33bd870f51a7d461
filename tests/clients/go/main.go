// A service that sends its users' properties to Userpilot, by way of the gateway.
//
// docs/clients.md has the commands that generate the package gatewayv1 and run this.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	gatewayv1 "example.com/client/gatewayv1"
)

// update takes strings, numbers, booleans and nil; nil is sent as null.
func update(userID string, properties map[string]any) (*gatewayv1.UserUpdate, error) {
	metadata, err := structpb.NewStruct(properties)
	if err != nil {
		return nil, err
	}
	return &gatewayv1.UserUpdate{UserId: userID, Metadata: metadata}, nil
}

// send sends one update, again and again where that helps. An answer means that it is on disk.
func send(ctx context.Context, gateway gatewayv1.IngestServiceClient, one *gatewayv1.UserUpdate) (string, error) {
	for {
		call, cancel := context.WithTimeout(ctx, 10*time.Second)
		accepted, err := gateway.UpdateUser(call, &gatewayv1.UpdateUserRequest{Update: one})
		cancel()
		if err == nil {
			return accepted.Receipt, nil
		}
		wait, again := retry(err)
		if !again {
			return "", err
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(wait):
		}
	}
}

// retry says whether to send again, and when: the gateway's own word, where it gives one.
func retry(err error) (time.Duration, bool) {
	refused := status.Convert(err)
	for _, detail := range refused.Details() {
		switch detail := detail.(type) {
		case *errdetails.RetryInfo:
			return detail.GetRetryDelay().AsDuration(), true
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				log.Printf("wrong field %s: %s", violation.GetField(), violation.GetDescription())
			}
		}
	}
	return time.Second, refused.Code() == codes.Unavailable
}

// follow asks what became of an update, until the profile in Userpilot holds it.
func follow(ctx context.Context, gateway gatewayv1.IngestServiceClient, receipt string) error {
	for {
		update, err := gateway.GetUpdate(ctx, &gatewayv1.GetUpdateRequest{Receipt: receipt})
		if err != nil {
			return err
		}
		if update.GetState() == gatewayv1.UpdateState_UPDATE_STATE_DELIVERED {
			fmt.Println("delivered by job", update.GetDelivered().GetJobId())
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func run(ctx context.Context, address string) error {
	// Beyond loopback: credentials.NewTLS, and a token of the gateway's as the header
	// "authorization: Bearer ..." (grpc.WithPerRPCCredentials).
	connection, err := grpc.Dial(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	gateway := gatewayv1.NewIngestServiceClient(connection)
	one, err := update("ada", map[string]any{"plan": "pro", "seats": 3, "trial": nil})
	if err != nil {
		return err
	}
	receipt, err := send(ctx, gateway, one)
	if err != nil {
		return err
	}
	return follow(ctx, gateway, receipt)
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx, os.Args[1]); err != nil {
		log.Fatal(err)
	}
}
