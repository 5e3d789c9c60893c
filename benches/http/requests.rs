//! What is asked for.

use serde_json::{Value, json};

use crate::support::app::Request;
use crate::support::scratch::unique;
use crate::support::token::token;

pub(crate) const PERFORMANCE: &str = "/api/monitoring/performance";

/// A GET of the performance endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Get {
    pub(crate) name: &'static str,
    pub(crate) query: &'static str,
    /// Sections with something in them; fewer is a wrong answer, however fast it came.
    pub(crate) at_least: i64,
}

pub(crate) const GETS: [Get; 4] = [
    Get {
        name: "full GET",
        query: "",
        at_least: 6,
    },
    Get {
        name: "full GET with details",
        query: "include_details=true",
        at_least: 6,
    },
    Get {
        name: "summary",
        query: "query_type=summary",
        at_least: 1,
    },
    Get {
        name: "connections",
        query: "query_type=connections",
        at_least: 1,
    },
];

/// Somebody who has asked for nothing yet: what one may ask in a minute is limited, and its count part of what a GET costs.
pub(crate) fn new_subject() -> String {
    unique("bench-")
}

impl Get {
    /// The event that a gateway makes of it. A browser accepts gzip.
    pub(crate) fn event(&self, subject: &str, accepts_gzip: bool) -> Value {
        let token = token(subject, "admin", &json!({"cognito:groups": ["admin"]}));
        let request = Request::get(PERFORMANCE, self.query).bearer(&token);
        match accepts_gzip {
            true => request.header("accept-encoding", "gzip").event(),
            false => request.event(),
        }
    }
}

/// What is answered without a caller and without the database: all there is to it is the way.
pub(crate) fn preflight() -> Value {
    Request::new("OPTIONS", PERFORMANCE).event()
}
