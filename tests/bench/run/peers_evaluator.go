package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// settle waits until every authzd tells what evaluates its policy. It is compiled
// before the server says that it is ready.
func (p *peers) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, e := range p.engines {
		for {
			state, _, err := evaluator(ctx, e.server.http)
			if err != nil {
				return fmt.Errorf("%s: %w", e.label, err)
			}
			if state != "" {
				break
			}
			pause(ctx, 50*time.Millisecond)
		}
	}
	return nil
}

// evaluated says of each policy what evaluated it in authzd.
func (p *peers) evaluated(ctx context.Context) ([]string, error) {
	var out []string
	for _, e := range p.engines {
		state, counts, err := evaluator(ctx, e.server.http)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.label, err)
		}
		out = append(out, fmt.Sprintf("%s: %s; %s", e.label, state, counts))
	}
	return out, nil
}

// evaluator reads from authzd's metrics what evaluates policy, and the shares.
func evaluator(ctx context.Context, addr string) (state, counts string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", http.NoBody)
	if err != nil {
		return "", "", fmt.Errorf("ask for metrics: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", "", fmt.Errorf("ask for metrics: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	return readEvaluator(resp.Body)
}

func readEvaluator(r io.Reader) (state, counts string, err error) {
	type count struct {
		by    string
		times float64
	}
	var all []count
	var total float64
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if rest, ok := strings.CutPrefix(line, `authzd_policy_evaluator{state="`); ok {
			state, _, _ = strings.Cut(rest, `"`)
		}
		rest, ok := strings.CutPrefix(line, `authzd_evaluations_total{by="`)
		if !ok {
			continue
		}
		labels, number, _ := strings.Cut(rest, "} ")
		var n float64
		if _, err := fmt.Sscan(number, &n); err != nil {
			return "", "", fmt.Errorf("metrics: %q: %w", line, err)
		}
		if n == 0 {
			continue
		}
		by, reason, _ := strings.Cut(labels, `",reason="`)
		name := strings.ReplaceAll(by, "_", " ")
		if reason = strings.TrimSuffix(reason, `"`); reason != "" {
			name += " (" + reason + ")"
		}
		all, total = append(all, count{name, n}), total+n
	}
	if err := lines.Err(); err != nil {
		return "", "", fmt.Errorf("read metrics: %w", err)
	}
	var texts []string
	for _, c := range all {
		texts = append(texts, fmt.Sprintf("%.1f %% %s", 100*c.times/total, c.by))
	}
	return state, strings.Join(texts, ", "), nil
}
