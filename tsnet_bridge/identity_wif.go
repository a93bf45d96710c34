//go:build wif

package main

import (
	"context"

	"tailscale.com/wif"
)

// providerToken asks the cloud's own identity service for a token.
func providerToken(ctx context.Context, audience string) (string, error) {
	return wif.ObtainProviderToken(ctx, audience)
}
