// Decodes bodies into the generated types, where an unknown field is an error, and encodes them again. Each line of standard
// input is a type's name, a tab, and a body.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"tierstream.example/tierstream"
)

var types = map[string]func() any{
	"Purchase":              func() any { return new(tierstream.Purchase) },
	"Complaint":             func() any { return new(tierstream.Complaint) },
	"Feedback":              func() any { return new(tierstream.Feedback) },
	"Prospect":              func() any { return new(tierstream.Prospect) },
	"Command":               func() any { return new(tierstream.Command) },
	"TierAnnouncement":      func() any { return new(tierstream.TierAnnouncement) },
	"RiskChange":            func() any { return new(tierstream.RiskChange) },
	"LifeCycleAnnouncement": func() any { return new(tierstream.LifeCycleAnnouncement) },
	"AlertChange":           func() any { return new(tierstream.AlertChange) },
	"Profile":               func() any { return new(tierstream.Profile) },
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, body, _ := bytes.Cut(lines.Bytes(), []byte("\t"))
		value := types[string(name)]()
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(value); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v: %s\n", name, err, body)
			os.Exit(1)
		}
		again, err := json.Marshal(value)
		if err != nil {
			panic(err)
		}
		fmt.Println(string(again))
	}
}
