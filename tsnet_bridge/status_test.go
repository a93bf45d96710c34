package main

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// What we write is field for field what the fixtures say.
func TestStatusDocumentsAreWrittenAsTheProtocolSays(t *testing.T) {
	for _, c := range fixture[[]struct {
		Name     string
		Document json.RawMessage
	}](t, "status.json") {
		var doc status
		strict := json.NewDecoder(bytes.NewReader(c.Document))
		strict.DisallowUnknownFields()
		if err := strict.Decode(&doc); err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		written, _ := json.Marshal(doc)
		var want, got any
		_ = json.Unmarshal(c.Document, &want)
		_ = json.Unmarshal(written, &got)
		if !reflect.DeepEqual(want, got) {
			t.Errorf("%s:\nwant %s\ngot  %s", c.Name, c.Document, written)
		}
	}
}

// The first document has lists, not null, and says which process it is of.
func TestFirstDocumentIsComplete(t *testing.T) {
	raw, _ := json.Marshal(newBoard(config{Restarts: 2}, newRedactor()).current())
	for _, part := range []string{`"state":"starting"`, `"ips":[]`, `"tags":[]`, `"restarts":2`, `"not_after":null`, `"protocol":1`} {
		if !strings.Contains(string(raw), part) {
			t.Errorf("%s lacks %s", raw, part)
		}
	}
}

// A subscriber gets the present document and then each change, but no repetition.
func TestSubscriberSeesEachChangeOnce(t *testing.T) {
	b := newBoard(config{}, newRedactor())
	now, changes, done := b.subscribe()
	defer done()
	if stateStarting != now.State {
		t.Fatal(now.State)
	}
	set := func(state string) bool { return b.update(func(d *status) { d.State = state }) }
	if !set(stateReady) || set(stateReady) || !set(stateDegraded) {
		t.Error("update does not tell what moved")
	}
	if first, second := <-changes, <-changes; first.State != stateReady || second.State != stateDegraded || len(changes) != 0 {
		t.Error(first.State, second.State)
	}
}

// A reader that does not read is cut off; the others are not.
func TestSlowSubscriberIsCutOff(t *testing.T) {
	b := newBoard(config{}, newRedactor())
	_, slow, _ := b.subscribe()
	for range subscriberRoom + 1 {
		b.update(func(d *status) { d.PID++ })
	}
	read := 0
	for range slow {
		read++
	}
	if subscriberRoom != read {
		t.Errorf("want %d then the end, got %d", subscriberRoom, read)
	}
	_, other, _ := b.subscribe()
	b.close()
	if _, more := <-other; more {
		t.Error("close leaves a subscription open")
	}
	if _, late, _ := b.subscribe(); len(late) != 0 {
		t.Error("a closed board takes subscribers")
	} else if _, more := <-late; more {
		t.Error("a late subscription stays open")
	}
}

// The answer to --version has the form that the parent's documents name.
func TestVersionLine(t *testing.T) {
	words := strings.Fields(versionLine())
	if len(words) != 7 || words[0] != "tsnet_bridge" || words[2] != "protocol" || words[3] != "1" || words[4] != "tailscale" || !strings.HasPrefix(words[6], "go1.") {
		t.Error(versionLine())
	}
}
