// Command snapshots-load calls a Snapshots service the way containerd and BuildKit do, with Go's gRPC over one
// connection, and prints as JSON how long that took.
//
// It is built from Debian's packages (GO111MODULE=off), so that the service is measured and not our own client.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	snapshots "github.com/containerd/containerd/api/services/snapshots/v1"
	fieldmask "github.com/gogo/protobuf/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// What containerd and BuildKit allow their snapshotters to send.
const maxMessageBytes = 16 << 20

// containerd's garbage collector leaves alone what has it.
var kept = map[string]string{"containerd.io/gc.root": "bench"}

type target struct {
	client      snapshots.SnapshotsClient
	snapshotter string
	ctx         context.Context
}

// What one caller does again and again. The key has not been used before.
type operation func(on target, key string) error

var operations = map[string]operation{
	"stat": func(on target, _ string) error {
		_, err := on.client.Stat(on.ctx, &snapshots.StatSnapshotRequest{Snapshotter: on.snapshotter, Key: "base"})
		return err
	},
	"update": func(on target, key string) error {
		info := snapshots.Info{Name: "base", Labels: map[string]string{"containerd.io/snapshot/bench": key}}
		mask := &fieldmask.FieldMask{Paths: []string{"labels.containerd.io/snapshot/bench"}}
		_, err := on.client.Update(on.ctx, &snapshots.UpdateSnapshotRequest{Snapshotter: on.snapshotter, Info: info, UpdateMask: mask})
		return err
	},
	"list": func(on target, _ string) error {
		stream, err := on.client.List(on.ctx, &snapshots.ListSnapshotsRequest{Snapshotter: on.snapshotter})
		if err != nil {
			return err
		}
		for {
			if _, err := stream.Recv(); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
	},
	"prepare": func(on target, key string) error { return on.prepare(key, "base") },
	"prepare-remove": func(on target, key string) error {
		if err := on.prepare(key, "base"); err != nil {
			return err
		}
		return on.remove(key)
	},
	"prepare-commit-remove": func(on target, key string) error {
		if err := on.prepare(key, "base"); err != nil {
			return err
		}
		if err := on.commit(key+"-done", key); err != nil {
			return err
		}
		return on.remove(key + "-done")
	},
}

func (on target) prepare(key, parent string) error {
	_, err := on.client.Prepare(on.ctx, &snapshots.PrepareSnapshotRequest{Snapshotter: on.snapshotter, Key: key, Parent: parent, Labels: kept})
	return err
}

func (on target) commit(name, key string) error {
	_, err := on.client.Commit(on.ctx, &snapshots.CommitSnapshotRequest{Snapshotter: on.snapshotter, Name: name, Key: key, Labels: kept})
	return err
}

func (on target) remove(key string) error {
	_, err := on.client.Remove(on.ctx, &snapshots.RemoveSnapshotRequest{Snapshotter: on.snapshotter, Key: key})
	return err
}

type load struct {
	Calls              int64   `json:"calls"`
	Seconds            float64 `json:"seconds"`
	MedianMicroseconds float64 `json:"medianMicroseconds"`
}

// Has so many callers repeat the operation, until the time is over or, if calls is not zero, that many are done.
func run(on target, operate operation, callers int, limit time.Duration, calls int64, prefix string) (load, error) {
	var group sync.WaitGroup
	var count, failed int64
	var failure atomic.Value
	latencies := make([][]time.Duration, callers)
	began := time.Now()
	for caller := 0; caller < callers; caller++ {
		group.Add(1)
		go func(caller int) {
			defer group.Done()
			for atomic.LoadInt64(&failed) == 0 && (calls != 0 || time.Since(began) < limit) {
				number := atomic.AddInt64(&count, 1)
				if calls != 0 && number > calls {
					return
				}
				before := time.Now()
				if err := operate(on, fmt.Sprintf("%s-%d", prefix, number)); err != nil {
					atomic.StoreInt64(&failed, 1)
					failure.Store(err)
					return
				}
				latencies[caller] = append(latencies[caller], time.Since(before))
			}
		}(caller)
	}
	group.Wait()
	elapsed := time.Since(began).Seconds()
	if err, ok := failure.Load().(error); ok {
		return load{}, err
	}
	var all []time.Duration
	for _, each := range latencies {
		all = append(all, each...)
	}
	sort.Slice(all, func(a, b int) bool { return all[a] < all[b] })
	result := load{Calls: int64(len(all)), Seconds: elapsed}
	if len(all) > 0 {
		result.MedianMicroseconds = float64(all[len(all)/2].Nanoseconds()) / 1000
	}
	return result, nil
}

func main() {
	address := flag.String("address", "", "path of the unix socket")
	snapshotter := flag.String("snapshotter", "overlayfs", "name of the snapshotter")
	namespace := flag.String("namespace", "bench", "containerd's name space")
	name := flag.String("operation", "stat", "what to do")
	callers := flag.Int("callers", 1, "callers at a time")
	limit := flag.Duration("duration", time.Second, "how long")
	calls := flag.Int64("calls", 0, "how often; 0: until the time is over")
	prefix := flag.String("prefix", "key", "beginning of the keys; each run on one server wants another")
	setUp := flag.Bool("set-up", false, "make the snapshot base first")
	flag.Parse()
	if err := start(*address, *snapshotter, *namespace, *name, *callers, *limit, *calls, *prefix, *setUp); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func start(address, snapshotter, namespace, name string, callers int, limit time.Duration, calls int64, prefix string, setUp bool) error {
	operate, ok := operations[name]
	if !ok {
		return fmt.Errorf("there is no operation %q", name)
	}
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(address, "unix://"))
	}
	connection, err := grpc.Dial("passthrough:///localhost",
		grpc.WithContextDialer(dial),
		grpc.WithInsecure(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.MaxCallSendMsgSize(maxMessageBytes)))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx := metadata.AppendToOutgoingContext(context.Background(), "containerd-namespace", namespace)
	on := target{client: snapshots.NewSnapshotsClient(connection), snapshotter: snapshotter, ctx: ctx}
	if setUp {
		if err := on.prepare("making-base", ""); err != nil {
			return err
		}
		if err := on.commit("base", "making-base"); err != nil {
			return err
		}
	}
	result, err := run(on, operate, callers, limit, calls, prefix)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}
