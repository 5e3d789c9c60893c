//! What pages measured: uploads of Lighthouse CI, budgets, Web Vitals.

mod budgets;
mod reports;
mod uploads;
mod vitals;

use serde_json::{Value, json};

use crate::support::app::{Answer, Request, TestApp};
use crate::support::database::TestDatabase;
use crate::support::postgres::SUPERUSER;

const LIGHTHOUSE: &str = "/api/monitoring/lighthouse";

/// A project as `monitoring.create_lighthouse_project()` made it.
struct Project {
    id: String,
    slug: String,
    token: String,
    key: String,
}

impl Project {
    fn new(database: &TestDatabase, name: &str) -> Self {
        let sql = format!("select * from monitoring.create_lighthouse_project('{name}')");
        let row = database.psql(SUPERUSER, &sql).expect("making a project");
        let mut columns = row.trim().split('|').map(str::to_owned);
        let mut next = || columns.next().expect("a column");
        Self {
            id: next(),
            slug: next(),
            token: next(),
            key: next(),
        }
    }

    fn path(&self, rest: &str) -> String {
        format!("{LIGHTHOUSE}/v1/projects/{}{rest}", self.id)
    }

    fn signed(&self, request: Request) -> Request {
        request.header("x-lhci-build-token", &self.token)
    }

    async fn post(&self, app: &TestApp, rest: &str, body: &Value) -> Answer {
        let request = Request::post(&self.path(rest), &body.to_string());
        app.send(self.signed(request)).await
    }

    async fn get(&self, app: &TestApp, rest: &str, query: &str) -> Answer {
        let request = Request::get(&self.path(rest), query);
        app.send(self.signed(request)).await
    }

    /// Begins a build and answers its id.
    async fn begin(&self, app: &TestApp, branch: &str, hash: &str) -> String {
        let body = json!({"branch": branch, "hash": hash, "lifecycle": "unsealed"});
        let answer = self.post(app, "/builds", &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()["id"].as_str().expect("an id").to_owned()
    }

    async fn add_run(&self, app: &TestApp, build: &str, url: &str, report: &Value) -> Answer {
        let body = json!({"url": url, "lhr": report.to_string()});
        self.post(app, &format!("/builds/{build}/runs"), &body)
            .await
    }

    async fn seal(&self, app: &TestApp, build: &str) -> Answer {
        let path = self.path(&format!("/builds/{build}/lifecycle"));
        app.send(self.signed(put(&path, "\"sealed\""))).await
    }

    async fn verdict(&self, app: &TestApp, build: &str) -> Value {
        let answer = self.get(app, &format!("/builds/{build}/verdict"), "").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }

    /// A build of one page with one run, from begin to seal; its id.
    async fn upload(&self, app: &TestApp, branch: &str, hash: &str, report: &Value) -> String {
        let build = self.begin(app, branch, hash).await;
        let run = self.add_run(app, &build, PAGE, report).await;
        assert_eq!(run.status, 201, "{}", run.text);
        assert_eq!(self.seal(app, &build).await.status, 204);
        build
    }
}

const PAGE: &str = "https://shop.example/guests";

fn put(path: &str, body: &str) -> Request {
    Request::new("PUT", path)
        .with_body(body)
        .header("content-type", "application/json")
}

/// A small report, of a page that is within its budgets.
fn report() -> Value {
    json!({
        "lighthouseVersion": "12.6.1",
        "fetchTime": "2025-06-07T17:00:00.123Z",
        "configSettings": {"formFactor": "mobile"},
        "categories": {
            "performance": {"score": 0.97},
            "accessibility": {"score": 1},
            "best-practices": {"score": 0.96},
            "seo": {"score": 0.9},
        },
        "audits": {
            "first-contentful-paint": {"numericValue": 900.25},
            "largest-contentful-paint": {"numericValue": 1400.5},
            "speed-index": {"numericValue": 1000},
            "total-blocking-time": {"numericValue": 20},
            "cumulative-layout-shift": {"numericValue": 0.01},
            "interactive": {"numericValue": 1500},
        },
    })
}

/// The same of a page that is slow.
fn slow_report() -> Value {
    let mut report = report();
    report["categories"]["performance"]["score"] = 0.71.into();
    report["audits"]["largest-contentful-paint"]["numericValue"] = 3120.into();
    report
}

fn rows(database: &TestDatabase, sql: &str) -> String {
    let rows = database.psql(SUPERUSER, sql).expect("reading");
    rows.trim_end().to_owned()
}

/// What is stored of uploads.
fn stored(database: &TestDatabase) -> String {
    rows(
        database,
        "select (select count(*) from monitoring.lighthouse_builds), (select count(*) from monitoring.lighthouse_runs)",
    )
}
