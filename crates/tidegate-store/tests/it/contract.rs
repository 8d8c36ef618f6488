//! What the repositories promise, on whichever database. Each case is written once and runs on both.

mod async_requests;
pub mod changes;
mod deployments;
mod feedback;
mod inferences;
mod jobs;
mod leases;
mod models;
mod replicas;
mod routes;
mod versions;
mod webhooks;

use crate::bench::{self, Case, cases};
use crate::postgres::Server;

fn all() -> Vec<Case> {
    cases![
        models::reads_back_what_was_registered,
        models::finds_by_id_before_name,
        models::filters_match_exactly,
        models::pages_newest_first,
        models::an_archived_name_may_be_taken_again,
        versions::reads_back_what_was_registered,
        versions::joins_the_live_model_of_that_name,
        versions::a_duplicate_leaves_nothing,
        versions::artifacts_without_the_primary_are_refused,
        versions::one_of_many_registers_the_same_version,
        versions::two_versions_of_a_new_model_at_once,
        versions::the_highest_number_is_the_latest,
        versions::every_artifact_has_its_key,
        versions::all_live_versions_are_browsed_newest_first,
        deployments::reads_back_what_was_created,
        deployments::one_in_progress_per_model_and_environment,
        deployments::one_of_many_creates,
        deployments::a_commit_is_whole,
        deployments::a_conflict_leaves_nothing,
        deployments::one_of_many_commits,
        deployments::a_stale_fence_is_refused,
        deployments::lists_by_filter_newest_first,
        deployments::events_are_read_in_pieces,
        deployments::the_newest_look_is_kept,
        routes::generations_grow,
        routes::a_route_made_on_top_of_an_older_one_is_refused_whole,
        routes::versions_are_deployed_while_an_arm_names_them,
        routes::the_largest_arm_is_the_active_version,
        routes::two_environments_change_at_once,
        leases::pass_from_holder_to_holder,
        leases::one_of_many_acquires,
        inferences::reads_back_what_was_recorded,
        inferences::a_request_is_recorded_once,
        inferences::old_requests_are_deleted_oldest_first,
        async_requests::a_request_is_answered_once,
        async_requests::a_failure_is_a_result_too,
        async_requests::who_is_lost_loses_its_claim,
        async_requests::what_is_given_back_is_taken_again,
        async_requests::no_more_wait_than_may,
        async_requests::many_take_and_each_request_goes_to_one,
        replicas::reports_are_replaced_whole,
        replicas::counts_outlive_their_replica_while_a_deployment_may_rest_on_them,
        changes::a_commit_is_told_here_and_in_another_process,
        changes::what_is_not_committed_is_not_told,
        changes::who_falls_behind_is_told_to_look_at_everything,
        webhooks::a_webhook_is_known_since_it_was_introduced,
        webhooks::what_lies_behind_the_cursor_has_yet_to_be_told,
        webhooks::what_is_postponed_waits_and_counts_its_attempts,
        jobs::a_job_goes_from_the_queue_to_its_end,
        jobs::a_job_is_taken_over_when_its_holder_is_silent,
        jobs::jobs_are_taken_in_order_each_by_one,
        jobs::a_job_that_is_given_back_waits_its_time,
        jobs::a_cancelled_job_is_nobodys,
        jobs::a_full_queue_takes_no_more_jobs,
        jobs::jobs_are_listed_newest_first_and_deleted_when_over,
        jobs::what_changes_in_a_job_is_told,
        feedback::labels_are_counted_by_version_and_a_later_one_replaces,
        feedback::metrics_are_summed_up_by_version_without_losing_digits,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn holds_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let fresh = |index| async move { format!("sqlite://{}/{index}/tidegate.db", path.display()) };
    check(bench::run(all(), fresh).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn holds_on_postgres() {
    let Some(server) = Server::start().await else { return };
    let fresh = &server;
    let failed =
        bench::run(all(), |index| async move { fresh.fresh_database(&format!("case{index}")).await }).await;
    server.stop().await;
    check(failed);
}

fn check(failed: Vec<String>) {
    assert!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n"));
}
