"""What the filer counts (bouncetap_filer_*), in prometheus_client's default registry."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

FILED = Counter("bouncetap_filer_filed_total", "Messages filed, by kind.", ["kind"])
FILED_BYTES = Counter("bouncetap_filer_filed_bytes_total", "Bytes of originals filed.")
UNREADABLE = Counter("bouncetap_filer_unreadable_total", "Messages that the classifier died of twice.")
WORKER_DEATHS = Counter("bouncetap_filer_worker_deaths_total", "Worker processes that died or took too long.")
ERRORS = Counter("bouncetap_filer_errors_total", "Steps that failed and are tried again.")
BACKLOG_BYTES = Gauge("bouncetap_filer_backlog_bytes", "Durable journal bytes not filed yet.")
UNDECIDED = Gauge("bouncetap_filer_undecided", "Messages read whose sender has no answer yet.")
LAG_SECONDS = Gauge("bouncetap_filer_lag_seconds", "Seconds since all of the journal was filed.")
DISK_WAITING = Gauge("bouncetap_filer_disk_waiting", "1 while filing waits for disk space.")
DAMAGED_BYTES = Gauge("bouncetap_filer_damaged_bytes", "Journal bytes that were no records and were passed over.")
BATCH_SECONDS = Histogram("bouncetap_filer_batch_seconds", "Time to file a batch, classifying aside.")
PREPARE_SECONDS = Histogram("bouncetap_filer_prepare_seconds", "Time to classify a batch.")
EXPIRED = Counter("bouncetap_filer_expired_total", "Entries expired, by folder.", ["folder"])
EXPIRY_BLOCKED = Gauge("bouncetap_filer_expiry_blocked", "1 while expiry waits for `expire --force`.")
