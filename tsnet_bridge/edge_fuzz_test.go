package main

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// FuzzEdge sends any bytes to the whole edge. A million of them:
//
//	go test -tags "$(cat tags.txt)" -run XXX -fuzz FuzzEdge -fuzztime 1000000x -fuzzminimizetime 10x
func FuzzEdge(f *testing.F) {
	h := openHostile(f)
	for i, seed := range hostileSeeds() {
		f.Add(seed, byte(i))
	}
	f.Fuzz(func(t *testing.T, stream []byte, piece byte) { h.try(t, stream, int(piece)) })
}

// Whatever comes in, only whole and plain deliveries come out at the parent.
func TestHostileBytesNeverReachTheParent(t *testing.T) {
	const seed, mutations = 20261123, 10_000
	t.Logf("%d mutations of seed %d", mutations, seed)
	h, random, seeds := openHostile(t), rand.New(rand.NewPCG(seed, 0)), hostileSeeds()
	for _, stream := range seeds {
		h.try(t, stream, 0)
	}
	for range mutations {
		stream := mutated(random, seeds)
		h.try(t, stream, random.IntN(64))
		if t.Failed() {
			t.Fatalf("%q", stream)
		}
	}
	if h.taken < mutations/10 {
		t.Errorf("%d deliveries came through: too little was tried", h.taken)
	}
	soon(t, "all connections are closed", func() bool { return h.open.Load() == 0 })
}

func hostileSeeds() (seeds [][]byte) {
	for _, c := range illFormed {
		text := strings.Replace(c.text, "Host: h\r\n", "Host: "+ownName+"\r\n", 1)
		if len(text) < 1<<12 {
			seeds = append(seeds, []byte(text), []byte(good+text+good))
		}
	}
	for _, text := range []string{
		good, good + good, githubHead(2) + "{}", githubHead(4) + "{}",
		strings.Replace(good, "\r\n", "\r\nConnection: close\r\n", 1),
		strings.Replace(good, "\r\n", "\r\nExpect: 100-continue\r\n", 1),
		strings.Replace(good, "\r\n", "\r\nConnection: upgrade, Content-Length\r\nUpgrade: h2c\r\n", 1),
		strings.Replace(good, "\r\n", "\r\nX-Forwarded-For: 1.2.3.4\r\nX_Real_Ip: 1.2.3.4\r\nTailscale-Node: n\r\nForwarded: for=1.2.3.4\r\n", 1),
		strings.Replace(good, "/webhooks", "https://"+ownName+"/webhooks", 1),
		strings.Replace(good, "github", "github?x=%0d%0aA:b&y;z", 1),
		strings.Replace(good, "4\r\n\r\ngood", "12\r\n\r\ngood, longer", 1) + good,
		strings.Replace(good, "github", "github?#x", 1) + good,
		"OPTIONS * HTTP/1.1\r\nHost: " + ownName + "\r\n\r\n" + good,
		"CONNECT " + ownName + ":443 HTTP/1.1\r\nHost: " + ownName + "\r\n\r\n" + good,
		"GET " + probePrefix + "x HTTP/1.1\r\nHost: " + ownName + "\r\n\r\n",
	} {
		seeds = append(seeds, []byte(text))
	}
	return seeds
}

// mutated changes a seed in one to four places.
func mutated(random *rand.Rand, seeds [][]byte) []byte {
	words := []string{
		"\r\n", "\n", "\r", " ", "\t", "\x00", ":", "\r\n\r\n", "0", "00000000000000000004", "-1", "chunked",
		"\r\nTransfer-Encoding: chunked", "\r\nContent-Length: 4", "\r\nContent-Length: 0", "\r\nHost: x", "\r\n ",
		"HTTP/1.0", "HTTP/1.1", "POST /webhooks/github HTTP/1.1\r\n", "0\r\n\r\n", "\r\nConnection: close", "%", "#", "?",
	}
	stream := slices.Clone(seeds[random.IntN(len(seeds))])
	for range 1 + random.IntN(4) {
		at := random.IntN(len(stream) + 1)
		to := min(len(stream), at+random.IntN(12))
		switch random.IntN(5) {
		case 0:
			stream = slices.Insert(stream, at, []byte(words[random.IntN(len(words))])...)
		case 1:
			stream = slices.Delete(stream, at, to)
		case 2:
			stream = slices.Insert(stream, at, stream[at:to]...)
		case 3:
			if at < len(stream) {
				stream[at] ^= 1 << random.IntN(8)
			}
		case 4:
			stream = append(stream[:at], seeds[random.IntN(len(seeds))]...)
		}
	}
	return stream
}
