package api

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/authzd/authzd/api/callers"
	"github.com/authzd/authzd/bundles/follow"
	"github.com/authzd/authzd/bundles/registry"
	"github.com/authzd/authzd/credentials"
	"github.com/authzd/authzd/engine"
)

// door names where a call came in, in metrics and logs.
type door string

const (
	doorREST    door = "rest"
	doorGRPC    door = "grpc"
	doorGateway door = "gateway"
	// doorLocal is an enforcement point in this process.
	doorLocal door = "local"
)

// metrics are this server's own; there is no global registry.
type metrics struct {
	registry  *prometheus.Registry
	decisions *prometheus.CounterVec
	errors    *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	inFlight  *prometheus.GaugeVec
	rendering prometheus.Counter
	refusals  *prometheus.CounterVec
	reloads   *prometheus.CounterVec
	stopped   *prometheus.CounterVec
	presented *prometheus.CounterVec
	// unaccepted counts connections that could not be taken.
	unaccepted *prometheus.CounterVec
	doors      map[door]*doorMetrics
}

// doorMetrics are looked up once, because finding a child by label values costs
// more than counting.
type doorMetrics struct {
	allow, deny prometheus.Counter
	duration    prometheus.Observer
	inFlight    prometheus.Gauge
}

func newMetrics(e *engine.Engine, p *pool, u *unreadAnswers, v Verifier, f *follow.Followers, b *registry.Registry) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authzd_decisions_total", Help: "Decisions made, by answer and door.",
		}, []string{"decision", "door"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authzd_errors_total", Help: "Calls that got an error instead of a decision, by code and door.",
		}, []string{"code", "door"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "authzd_decision_duration_seconds", Help: "Time from the decoded call to its answer, waiting included.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}, []string{"door"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "authzd_requests_in_flight", Help: "Calls under way.",
		}, []string{"door"}),
		rendering: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "authzd_denials_reduced_total", Help: "Denials of which a malformed part was left out.",
		}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authzd_callers_refused_total", Help: "Calls that were refused for their caller, by reason and door.",
		}, []string{"reason", "door"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authzd_reloads_total", Help: "Readings of changed certificates, of changed keys and callers, and of bundles, by outcome.",
		}, []string{"files", "outcome"}),
		stopped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authzd_evaluations_stopped_total", Help: "Decisions that deny because policy was out of time or steps (engine.budget), by the bundle that decides.",
		}, []string{"bundle"}),
		presented: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authzd_credentials_verified_total", Help: "Credentials that were judged by their issuers' settings: ok, or the code that they were rejected with.",
		}, []string{"outcome"}),
		unaccepted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authzd_accept_errors_total", Help: "Attempts to take a connection that failed, as without file descriptors, by door.",
		}, []string{"door"}),
		doors: make(map[door]*doorMetrics),
	}
	m.registry.MustRegister(
		m.decisions, m.errors, m.duration, m.inFlight, m.rendering, m.refusals, m.reloads, m.presented, m.stopped, m.unaccepted,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "authzd_decision_queue", Help: "Calls that wait for their decision to begin.",
		}, func() float64 { waiting, _ := p.waits(); return float64(waiting) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "authzd_slow_evaluations", Help: "Evaluations of policy that take long, and run beside the others.",
		}, func() float64 { _, slow := p.waits(); return float64(slow) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "authzd_unread_bytes", Help: "Bytes of answers of more than a KiB, and of messages of streams, that clients of gRPC have not taken yet.",
		}, u.bytes),
		&evaluationInfo{
			engine:   e,
			counts:   prometheus.NewDesc("authzd_evaluations_total", "Evaluations of policy: compiled, interpreted, or handed over by the compiled policy to the interpreter, for a reason.", []string{"by", "reason"}, nil),
			verified: prometheus.NewDesc("authzd_evaluations_verified_total", "Evaluations of compiled policy that were chosen to be compared with the interpreter: same, different (report this), or skipped.", []string{"outcome"}, nil),
			state:    prometheus.NewDesc("authzd_policy_evaluator", "What evaluates the live policy: 1 for interpreted, compiled, refused or distrusted.", []string{"state"}, nil),
		},
		&snapshotInfo{engine: e, desc: prometheus.NewDesc("authzd_snapshot_info", "The live policy: 1 for each bundle.", []string{"bundle", "revision"}, nil)},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	if b != nil {
		m.registry.MustRegister(&bundleInfo{
			of:       b,
			bytes:    prometheus.NewDesc("authzd_bundle_bytes", "How many bytes the files of an active pushed bundle have together.", []string{"bundle"}, nil),
			number:   prometheus.NewDesc("authzd_bundle_changes", "The number of the last change of an active bundle's data since its release.", []string{"bundle"}, nil),
			changes:  prometheus.NewDesc("authzd_data_changes_total", "Changes of data that were asked for: made or refused.", []string{"outcome"}, nil),
			stages:   prometheus.NewDesc("authzd_bundle_stages_total", "Stages of loading bundles that were gone through: verify, compile or test.", []string{"stage"}, nil),
			duration: prometheus.NewDesc("authzd_bundle_stage_seconds_total", "Time that they took.", []string{"stage"}, nil),
			busy:     prometheus.NewDesc("authzd_bundle_stages_busy", "Stages that are being gone through now.", []string{"stage"}, nil),
		})
	}
	if f != nil {
		m.registry.MustRegister(&followInfo{
			of:         f,
			age:        prometheus.NewDesc("authzd_follow_age_seconds", "Time since the source of a followed bundle last confirmed it, or brought it; +Inf: never since the start.", []string{"bundle"}, nil),
			answers:    prometheus.NewDesc("authzd_follows_total", "Requests for followed bundles: ok, failed (no usable answer), or refused (an archive that was not taken).", []string{"bundle", "outcome"}, nil),
			overridden: prometheus.NewDesc("authzd_follow_overridden", "Whether something else is active than what was taken from the source, by hand.", []string{"bundle"}, nil),
		})
	}
	if known, ok := v.(issuerStatus); ok {
		m.registry.MustRegister(&issuerInfo{
			of:      known,
			usable:  prometheus.NewDesc("authzd_issuer_keys_usable", "Whether tokens of the issuer can be verified by its keys.", []string{"issuer"}, nil),
			fetched: prometheus.NewDesc("authzd_issuer_keys_fetched_timestamp_seconds", "When the keys of the issuer were last fetched; 0: never.", []string{"issuer"}, nil),
		})
	}
	for _, d := range []door{doorREST, doorGRPC, doorGateway, doorLocal} {
		for _, why := range callers.Reasons() {
			m.refusals.WithLabelValues(string(why), string(d))
		}
		m.doors[d] = &doorMetrics{
			allow:    m.decisions.WithLabelValues("allow", string(d)),
			deny:     m.decisions.WithLabelValues("deny", string(d)),
			duration: m.duration.WithLabelValues(string(d)),
			inFlight: m.inFlight.WithLabelValues(string(d)),
		}
	}
	return m
}

// countLost adds how many lines of the log are lost.
func (m *metrics) countLost(lost func() uint64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "authzd_log_lines_lost_total", Help: "Lines of the log that were lost, because nobody reads it or its disk is full.",
	}, func() float64 { return float64(lost()) }))
}

func (m *doorMetrics) decided(allow bool) {
	if allow {
		m.allow.Inc()
	} else {
		m.deny.Inc()
	}
}

// evaluationInfo reads what evaluates policy when it is asked.
type evaluationInfo struct {
	engine                  *engine.Engine
	counts, verified, state *prometheus.Desc
}

func (i *evaluationInfo) Describe(ch chan<- *prometheus.Desc) {
	ch <- i.counts
	ch <- i.verified
	ch <- i.state
}

func (i *evaluationInfo) Collect(ch chan<- prometheus.Metric) {
	n := i.engine.Evaluations()
	counter := func(desc *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(v), labels...)
	}
	counter(i.counts, n.Compiled, "compiled", "")
	counter(i.counts, n.Interpreted, "interpreted", "")
	for reason, v := range n.HandedOver {
		counter(i.counts, v, "handed_over", reason)
	}
	counter(i.verified, n.Verified-n.Different, "same")
	counter(i.verified, n.Different, "different")
	counter(i.verified, n.Unverified, "skipped")
	if live := i.engine.Snapshot(); live != nil {
		state, _ := live.Evaluator()
		ch <- prometheus.MustNewConstMetric(i.state, prometheus.GaugeValue, 1, string(state))
	}
}

// snapshotInfo reads the live snapshot when it is asked.
type snapshotInfo struct {
	engine *engine.Engine
	desc   *prometheus.Desc
}

func (i *snapshotInfo) Describe(ch chan<- *prometheus.Desc) { ch <- i.desc }

func (i *snapshotInfo) Collect(ch chan<- prometheus.Metric) {
	live := i.engine.Snapshot()
	if live == nil {
		return
	}
	for _, ref := range live.Bundles() {
		ch <- prometheus.MustNewConstMetric(i.desc, prometheus.GaugeValue, 1, valid(ref.Bundle), valid(activeOf(ref).ref.Revision))
	}
}

// bundleInfo reads what is known of pushed bundles when it is asked.
type bundleInfo struct {
	of                                             *registry.Registry
	bytes, number, changes, stages, duration, busy *prometheus.Desc
}

func (i *bundleInfo) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{i.bytes, i.number, i.changes, i.stages, i.duration, i.busy} {
		ch <- d
	}
}

func (i *bundleInfo) Collect(ch chan<- prometheus.Metric) {
	s := i.of.Stats()
	for _, a := range s.Active {
		ch <- prometheus.MustNewConstMetric(i.bytes, prometheus.GaugeValue, float64(a.Bytes), a.Name)
		ch <- prometheus.MustNewConstMetric(i.number, prometheus.GaugeValue, float64(a.Changes), a.Name)
	}
	ch <- prometheus.MustNewConstMetric(i.changes, prometheus.CounterValue, float64(s.Made), "made")
	ch <- prometheus.MustNewConstMetric(i.changes, prometheus.CounterValue, float64(s.Refused), "refused")
	for stage, n := range s.Stages {
		ch <- prometheus.MustNewConstMetric(i.stages, prometheus.CounterValue, float64(n.Count), string(stage))
		ch <- prometheus.MustNewConstMetric(i.duration, prometheus.CounterValue, n.Took.Seconds(), string(stage))
		ch <- prometheus.MustNewConstMetric(i.busy, prometheus.GaugeValue, float64(n.Busy), string(stage))
	}
}

// followInfo reads how following goes when it is asked.
type followInfo struct {
	of                       *follow.Followers
	age, answers, overridden *prometheus.Desc
}

func (i *followInfo) Describe(ch chan<- *prometheus.Desc) {
	ch <- i.age
	ch <- i.answers
	ch <- i.overridden
}

func (i *followInfo) Collect(ch chan<- prometheus.Metric) {
	for _, s := range i.of.Status() {
		age := math.Inf(1)
		if s.Age != follow.Never {
			age = s.Age.Seconds()
		}
		ch <- prometheus.MustNewConstMetric(i.age, prometheus.GaugeValue, age, s.Bundle)
		overridden := 0.0
		if s.Overridden {
			overridden = 1
		}
		ch <- prometheus.MustNewConstMetric(i.overridden, prometheus.GaugeValue, overridden, s.Bundle)
		for outcome, n := range map[string]uint64{"ok": s.Confirmed, "failed": s.Failed, "refused": s.Refused} {
			ch <- prometheus.MustNewConstMetric(i.answers, prometheus.CounterValue, float64(n), s.Bundle, outcome)
		}
	}
}

// issuerStatus is a Verifier that tells of its issuers' keys.
type issuerStatus interface {
	Status() []credentials.IssuerStatus
}

type issuerInfo struct {
	of              issuerStatus
	usable, fetched *prometheus.Desc
}

func (i *issuerInfo) Describe(ch chan<- *prometheus.Desc) {
	ch <- i.usable
	ch <- i.fetched
}

func (i *issuerInfo) Collect(ch chan<- prometheus.Metric) {
	for _, s := range i.of.Status() {
		usable, fetched := 0.0, 0.0
		if s.Usable {
			usable = 1
		}
		if !s.FetchedAt.IsZero() {
			fetched = float64(s.FetchedAt.Unix())
		}
		ch <- prometheus.MustNewConstMetric(i.usable, prometheus.GaugeValue, usable, valid(s.Issuer))
		ch <- prometheus.MustNewConstMetric(i.fetched, prometheus.GaugeValue, fetched, valid(s.Issuer))
	}
}
