// Sends purchases, one JSON object a line. Usage: go run ./produce HOST:PORT [TOPIC] < purchases.jsonl
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/twmb/franz-go/pkg/kgo"
	"tierstream.example/tierstream"
)

const mostBytes = 65536 // of a record, as Tierstream takes it

func produce(broker, topic string, lines io.Reader) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(broker),
		kgo.DefaultProduceTopic(topic),
		// murmur2 of the key, as Java's clients do: all events of a customer have to be in one partition, whoever sends
		// them. It is the default, too. Producers of this client are idempotent, and keep a customer's events in order.
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
	)
	if err != nil {
		return err
	}
	defer client.Close()

	var sending kgo.FirstErrPromise
	scanner := bufio.NewScanner(lines)
	scanner.Buffer(nil, mostBytes)
	for number := 1; scanner.Scan(); number++ {
		var purchase tierstream.Purchase
		if err := json.Unmarshal(scanner.Bytes(), &purchase); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		line := append([]byte(nil), scanner.Bytes()...)
		record := &kgo.Record{Key: []byte(purchase.CustomerID), Value: line}
		client.Produce(context.Background(), record, sending.Promise())
	}
	if err := scanner.Err(); err != nil {
		return err
	}
	return sending.Err() // waits for all
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "Usage: produce HOST:PORT [TOPIC] < purchases.jsonl")
		os.Exit(2)
	}
	topic := "purchases"
	if len(os.Args) > 2 {
		topic = os.Args[2]
	}
	if err := produce(os.Args[1], topic, os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
