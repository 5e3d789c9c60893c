//! `CLOUDWATCH_METRICS`: which numbers of a sample CloudWatch takes as metrics. Each is paid for by the month and the database; as
//! fields of the log they are there anyway.

use std::collections::BTreeSet;

/// The numbers a sample may have, by CloudWatch's names.
pub const METRICS: [&str; 20] = [
    "SamplesTaken",
    "SamplesSkipped",
    "SampleFailed",
    "DatabaseReachable",
    "HealthScore",
    "SampleDuration",
    "SampleLateness",
    "Findings",
    "SlowQueries",
    "BlockedSessions",
    "ConnectionUtilization",
    "LongestTransaction",
    "HighRiskTables",
    "TablesNeedingVacuum",
    "UnresolvedEvents",
    "CriticalEvents",
    "ActiveSessions",
    "TransactionIdAge",
    "ReplicationLag",
    "NotificationsFailed",
];

/// Taken without being named: the alarm for a database that is gone goes by it.
const HEARTBEAT: &str = "DatabaseReachable";

/// Names of metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudWatchMetrics(BTreeSet<&'static str>);

impl Default for CloudWatchMetrics {
    fn default() -> Self {
        Self([HEARTBEAT].into())
    }
}

impl CloudWatchMetrics {
    /// Whether CloudWatch is to take this one.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Reads `none`, `all`, or names, which are taken beside the heartbeat.
    ///
    /// # Errors
    ///
    /// One sentence that names what there is no metric of.
    pub(super) fn parse(list: &str) -> Result<Self, String> {
        match list {
            "none" => return Ok(Self(BTreeSet::new())),
            "all" => return Ok(Self(METRICS.into())),
            _ => {}
        }
        let mut names = Self::default().0;
        let mut unknown = Vec::new();
        let asked = list.split(',').map(str::trim);
        for name in asked.filter(|name| !name.is_empty()) {
            match METRICS.iter().find(|&&known| known == name) {
                Some(known) => _ = names.insert(known),
                None => unknown.push(format!("\"{name}\"")),
            }
        }
        if unknown.is_empty() {
            return Ok(Self(names));
        }
        Err(format!(
            "CLOUDWATCH_METRICS holds {}: must be none, all, or a list of {}",
            unknown.join(", "),
            METRICS.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(list: &str) -> Vec<&'static str> {
        let metrics = CloudWatchMetrics::parse(list).expect(list);
        let is_taken = |name: &&str| metrics.contains(name);
        METRICS.into_iter().filter(is_taken).collect()
    }

    #[test]
    fn the_heartbeat_is_left_out_only_with_everything() {
        assert_eq!(taken(""), ["DatabaseReachable"]);
        assert_eq!(
            taken(" HealthScore ,"),
            ["DatabaseReachable", "HealthScore"]
        );
        assert_eq!(taken("DatabaseReachable"), ["DatabaseReachable"]);
        assert_eq!(taken("none"), Vec::<&str>::new());
        assert_eq!(taken("all"), METRICS);
    }

    #[test]
    fn what_is_no_metric_is_named() {
        for list in [
            "healthscore",
            "HealthScore,Helth",
            "none,HealthScore",
            "ALL",
        ] {
            let problem = CloudWatchMetrics::parse(list).expect_err(list);
            let wrong = list.rsplit(',').find(|name| !METRICS.contains(name));
            let wrong = format!(
                "CLOUDWATCH_METRICS holds \"{}\":",
                wrong.unwrap_or_default()
            );
            assert!(problem.starts_with(&wrong), "{problem}");
        }
    }
}
