package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	ledgerFile = "bridge.certs.json"
	// weeklyBudget is how many certificates for one name Let's Encrypt makes in
	// budgetPeriod (https://letsencrypt.org/docs/rate-limits, duplicates).
	weeklyBudget = 5
	budgetPeriod = 168 * time.Hour
)

// issuance is one certificate that the CA made for us.
type issuance struct {
	Domain string    `json:"domain"`
	Print  string    `json:"sha256"`
	At     time.Time `json:"at"` // its NotBefore
}

// ledger counts certificates against the CA's weekly budget. It lies in the state
// folder: a start costs nothing as long as that folder is kept.
type ledger struct{ path string }

func newLedger(stateDir string) ledger { return ledger{filepath.Join(stateDir, ledgerFile)} }

// record adds a certificate, once, and returns how many for its name are not
// older than the period. The same certificate is loaded at each start.
func (l ledger) record(domain string, leaf *x509.Certificate, now time.Time) (inPeriod int, err error) {
	all, err := l.read()
	if err != nil {
		return 0, err
	}
	print := fmt.Sprintf("%x", sha256.Sum256(leaf.Raw))
	found, kept := false, []issuance{}
	for _, one := range all {
		if now.Sub(one.At) > budgetPeriod {
			continue
		}
		kept = append(kept, one)
		found = found || one.Print == print
	}
	if !found && now.Sub(leaf.NotBefore) <= budgetPeriod {
		kept = append(kept, issuance{domain, print, leaf.NotBefore})
	}
	for _, one := range kept {
		if one.Domain == domain {
			inPeriod++
		}
	}
	return inPeriod, l.write(kept)
}

func (l ledger) read() (all []issuance, err error) {
	raw, err := os.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && json.Unmarshal(raw, &all) != nil {
		all = nil // a damaged count begins again; nothing depends on it
	}
	return all, err
}

func (l ledger) write(all []issuance) error {
	raw, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return writeWhole(l.path, append(raw, '\n'))
}
