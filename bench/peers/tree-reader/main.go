// Command tree-reader uses a tree of files in one way, and prints as JSON how long that took.
//
// A program of its own, because a process must not read what it serves itself, and in Go, because what Node adds to a
// system call is more than a warm lookup takes.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"sort"
	"syscall"
	"time"
)

const (
	blockBytes = 4096
	readBytes  = 1 << 20
	// posix_fadvise(2): no read-ahead.
	adviceRandom = 1
)

type result struct {
	Operations         int     `json:"operations"`
	Bytes              int64   `json:"bytes"`
	Seconds            float64 `json:"seconds"`
	MeanMicroseconds   float64 `json:"meanMicroseconds"`
	MedianMicroseconds float64 `json:"medianMicroseconds"`
	P99Microseconds    float64 `json:"p99Microseconds"`
}

// What is done with each path. Returns how many bytes it has read.
type operation func(path string, buffer []byte) (int64, error)

func lstat(path string, _ []byte) (int64, error) {
	var stat syscall.Stat_t
	return 0, syscall.Lstat(path, &stat)
}

// Opens, reads to the end and closes.
func read(path string, buffer []byte) (int64, error) {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return 0, err
	}
	defer syscall.Close(fd)
	var total int64
	for {
		count, err := syscall.Read(fd, buffer)
		if err != nil || count == 0 {
			return total, err
		}
		total += int64(count)
	}
}

// Times the operation on each of the paths, in their order.
func onEach(paths []string, operate operation) (result, error) {
	buffer := make([]byte, readBytes)
	latencies := make([]time.Duration, 0, len(paths))
	var bytes int64
	began := time.Now()
	for _, path := range paths {
		before := time.Now()
		count, err := operate(path, buffer)
		if err != nil {
			return result{}, fmt.Errorf("%s: %w", path, err)
		}
		latencies = append(latencies, time.Since(before))
		bytes += count
	}
	return summary(latencies, bytes, time.Since(began)), nil
}

// Reads blocks of one file in an order that is the same each time, without read-ahead.
func random(path string, count int) (result, error) {
	fd, err := syscall.Open(path, syscall.O_RDONLY, 0)
	if err != nil {
		return result{}, err
	}
	defer syscall.Close(fd)
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return result{}, err
	}
	if _, _, errno := syscall.Syscall6(syscall.SYS_FADVISE64, uintptr(fd), 0, 0, adviceRandom, 0, 0); errno != 0 {
		return result{}, errno
	}
	order := rand.New(rand.NewSource(1)).Perm(int(stat.Size / blockBytes))
	if count < len(order) {
		order = order[:count]
	}
	buffer := make([]byte, blockBytes)
	latencies := make([]time.Duration, 0, len(order))
	began := time.Now()
	for _, block := range order {
		before := time.Now()
		if got, err := syscall.Pread(fd, buffer, int64(block)*blockBytes); err != nil || got != blockBytes {
			return result{}, fmt.Errorf("%s: read %d bytes of block %d: %v", path, got, block, err)
		}
		latencies = append(latencies, time.Since(before))
	}
	return summary(latencies, int64(len(order))*blockBytes, time.Since(began)), nil
}

func summary(latencies []time.Duration, bytes int64, took time.Duration) result {
	sorted := append([]time.Duration(nil), latencies...)
	sort.Slice(sorted, func(a, b int) bool { return sorted[a] < sorted[b] })
	micros := func(duration time.Duration) float64 { return float64(duration.Nanoseconds()) / 1000 }
	of := result{Operations: len(sorted), Bytes: bytes, Seconds: took.Seconds()}
	if len(sorted) > 0 {
		of.MeanMicroseconds = micros(took) / float64(len(sorted))
		of.MedianMicroseconds = micros(sorted[len(sorted)/2])
		of.P99Microseconds = micros(sorted[len(sorted)*99/100])
	}
	return of
}

func linesOf(file, root string) ([]string, error) {
	opened, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	var paths []string
	lines := bufio.NewScanner(opened)
	for lines.Scan() {
		paths = append(paths, filepath.Join(root, lines.Text()))
	}
	return paths, lines.Err()
}

func run() (result, error) {
	root := flag.String("root", "/", "what the paths are relative to")
	list := flag.String("list", "", "file with a path on each line")
	path := flag.String("path", "", "of the file for random")
	count := flag.Int("count", 1000, "how many blocks random reads")
	name := flag.String("operation", "lstat", "lstat or read each path of the list, or random: read blocks of one file")
	flag.Parse()
	if *name == "random" {
		return random(filepath.Join(*root, *path), *count)
	}
	operate, ok := map[string]operation{"lstat": lstat, "read": read}[*name]
	if !ok {
		return result{}, fmt.Errorf("there is no operation %q", *name)
	}
	paths, err := linesOf(*list, *root)
	if err != nil {
		return result{}, err
	}
	return onEach(paths, operate)
}

func main() {
	measured, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(measured); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
