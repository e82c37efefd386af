// Prints tier changes, each of them once, until Ctrl-C. Usage: go run ./follow HOST:PORT GROUP [TOPIC]
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"tierstream.example/tierstream"
)

const remember = 50_000 // customers a partition, and records that are looked at before the group's position

// partition has the group's position, and the latest seq of the customers that were announced last, in two halves of
// which the older one is dropped when the newer one is full.
type partition struct {
	begin        int64
	newer, older map[string]int64
}

func (p *partition) latest(customer string) (int64, bool) {
	if seq, ok := p.newer[customer]; ok {
		return seq, true
	}
	seq, ok := p.older[customer]
	return seq, ok
}

func (p *partition) record(customer string, seq int64) {
	if len(p.newer) >= remember {
		p.newer, p.older = map[string]int64{}, p.newer
	}
	p.newer[customer] = seq
}

type follower struct {
	admin      *kadm.Client
	topic      string
	lock       sync.Mutex
	partitions map[int32]*partition
}

// lookBack goes back before the group's positions, so as to know what came last.
func (f *follower) lookBack(ctx context.Context, offsets map[int32]kgo.Offset) error {
	firsts, err := f.admin.ListStartOffsets(ctx, f.topic)
	if err != nil {
		return err
	}
	ends, err := f.admin.ListEndOffsets(ctx, f.topic)
	if err != nil {
		return err
	}
	f.lock.Lock()
	defer f.lock.Unlock()
	for number, committed := range offsets {
		first, _ := firsts.Lookup(f.topic, number)
		end, _ := ends.Lookup(f.topic, number)
		begin := committed.EpochOffset().Offset
		if begin < 0 { // the group has no position yet
			begin = first.Offset
		}
		if begin < first.Offset || begin > end.Offset {
			return fmt.Errorf("%s, partition %d is to be read from %d, but has %d to %d",
				f.topic, number, begin, first.Offset, end.Offset)
		}
		f.partitions[number] = &partition{begin, map[string]int64{}, map[string]int64{}}
		offsets[number] = kgo.NewOffset().At(max(first.Offset, begin-remember))
	}
	return nil
}

// take handles a record if it is new, and says whether it is done; it isn't where it is only looked at.
func (f *follower) take(record *kgo.Record) (bool, error) {
	var change tierstream.TierAnnouncement
	if err := json.Unmarshal(record.Value, &change); err != nil {
		return false, fmt.Errorf("%s, partition %d, offset %d: %w", record.Topic, record.Partition, record.Offset, err)
	}
	f.lock.Lock()
	p := f.partitions[record.Partition]
	f.lock.Unlock()
	seen, known := p.latest(change.CustomerID)
	isDone := record.Offset >= p.begin
	if isDone {
		if known && change.PreviousSeq > seen {
			fmt.Fprintf(os.Stderr, "announcements of %s after %d up to %d are missing\n",
				change.CustomerID, seen, change.PreviousSeq)
		}
		if !known || change.Seq > seen { // else it is a repeat
			handle(change)
		}
	}
	p.record(change.CustomerID, max(change.Seq, seen))
	return isDone, nil
}

func handle(change tierstream.TierAnnouncement) {
	if change.After == nil {
		fmt.Printf("%s %d is to be forgotten\n", change.CustomerID, change.Seq)
		return
	}
	fmt.Printf("%s %d %s %s -> %s\n",
		change.CustomerID, change.Seq, change.Change, change.Before.Tier, change.After.Tier)
}

func follow(ctx context.Context, broker, group, topic string) error {
	admin, err := kadm.NewOptClient(kgo.SeedBrokers(broker))
	if err != nil {
		return err
	}
	defer admin.Close()
	f := &follower{admin: admin, topic: topic, partitions: map[int32]*partition{}}
	failed := make(chan error, 1)
	client, err := kgo.NewClient(
		kgo.SeedBrokers(broker),
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), // not what a transaction took back
		kgo.AutoCommitMarks(),                        // what is handled is committed, and nothing else
		kgo.BlockRebalanceOnPoll(),
		kgo.AdjustFetchOffsetsFn(func(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (
			map[string]map[int32]kgo.Offset, error) {
			err := f.lookBack(ctx, offsets[topic])
			if err != nil {
				failed <- err
			}
			return offsets, err
		}),
	)
	if err != nil {
		return err
	}
	defer client.CloseAllowingRebalance()
	for {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return client.CommitMarkedOffsets(context.Background())
		}
		select {
		case err := <-failed:
			return err
		default:
		}
		if err := errors.Join(errorsOf(fetches)...); err != nil {
			return err
		}
		for _, record := range fetches.Records() {
			isDone, err := f.take(record)
			if err != nil {
				return err
			}
			if isDone {
				client.MarkCommitRecords(record)
			}
		}
		client.AllowRebalance()
	}
}

func errorsOf(fetches kgo.Fetches) (found []error) {
	for _, one := range fetches.Errors() {
		found = append(found, fmt.Errorf("%s, partition %d: %w", one.Topic, one.Partition, one.Err))
	}
	return found
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "Usage: follow HOST:PORT GROUP [TOPIC]")
		os.Exit(2)
	}
	topic := "tier-changes"
	if len(os.Args) > 3 {
		topic = os.Args[3]
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := follow(ctx, os.Args[1], os.Args[2], topic); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
