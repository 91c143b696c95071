// Command stargz serves stargz-snapshotter on a unix socket, as containerd's proxy plugins are served.
//
// Debian packages the library and not the daemon. What it is given here is what the daemon has by default: sources from
// the labels of the client, registries on loopback by plain HTTP, memory for the TOC, decompressed chunks on disk.
//
// It is built from Debian's packages (GO111MODULE=off).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/contrib/snapshotservice"
	"github.com/containerd/containerd/reference"
	"github.com/containerd/containerd/remotes/docker"
	"github.com/containerd/stargz-snapshotter/fs"
	"github.com/containerd/stargz-snapshotter/fs/config"
	"github.com/containerd/stargz-snapshotter/fs/source"
	"github.com/containerd/stargz-snapshotter/snapshot"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
)

// How long the daemon waits for a registry.
const requestTimeout = 30 * time.Second

// Where the layers of an image are. The client of HTTP is of the daemon's kind, with the daemon's timeout.
func hosts(image reference.Spec) ([]docker.RegistryHost, error) {
	retrying := retryablehttp.NewClient()
	retrying.Logger = nil
	client := retrying.StandardClient()
	client.Timeout = requestTimeout
	plain := docker.WithPlainHTTP(docker.MatchLocalhost)
	return docker.ConfigureDefaultRegistries(plain, docker.WithClient(client))(image.Hostname())
}

func main() {
	root := flag.String("root", "", "directory for its state")
	address := flag.String("address", "", "path of the unix socket")
	prefetch := flag.Bool("prefetch", true, "fetch what the image says is needed first before a container starts")
	background := flag.Bool("background", true, "fetch the rest of each layer when nobody reads")
	level := flag.String("log-level", "warning", "")
	flag.Parse()
	if parsed, err := logrus.ParseLevel(*level); err == nil {
		logrus.SetLevel(parsed)
	}
	if err := serve(*root, *address, *prefetch, *background); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Serves until SIGTERM, and then unmounts all layers.
func serve(root, address string, prefetch, background bool) error {
	lazy, err := fs.NewFilesystem(filepath.Join(root, "stargz"), config.Config{
		NoPrefetch:        !prefetch,
		NoBackgroundFetch: !background,
		NoPrometheus:      true,
		// What the daemon's configuration says if nobody says otherwise.
		DirectoryCacheConfig: config.DirectoryCacheConfig{Direct: true},
	}, fs.WithGetSources(source.FromDefaultLabels(hosts)))
	if err != nil {
		return err
	}
	snapshotter, err := snapshot.NewSnapshotter(context.Background(), filepath.Join(root, "snapshotter"), lazy, snapshot.AsynchronousRemove)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	snapshotsapi.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(snapshotter))
	listener, err := net.Listen("unix", address)
	if err != nil {
		return err
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-asked
		server.Stop()
	}()
	fmt.Println("serving")
	if err := server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return snapshotter.Close()
}
