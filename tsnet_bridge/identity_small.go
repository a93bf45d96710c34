//go:build !wif

package main

import (
	"context"
	"errors"
)

// providerToken asks the cloud's own identity service for a token. Its libraries
// weigh more than 2 MB, so that they are only in a build with the tag wif.
func providerToken(context.Context, string) (string, error) {
	return "", refusal{errors.New("this tsnet_bridge was built without the cloud providers' libraries, which TS_AUDIENCE needs; " +
		"set TS_ID_TOKEN_FILE instead, or install with REPO_GUARDIAN_WIF=1")}
}
