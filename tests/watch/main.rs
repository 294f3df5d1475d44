//! What monitoring sees: the page of metrics, the dashboard and the alert rules, checked by Prometheus'
//! own tool; and readers of the page who mean no good, beside mail that must not notice.

mod page;
mod prometheus;
mod readers;
