-- What a run's attempts before the first round look like.
-- $run_id: the run.

WITH attempts AS (
    SELECT * FROM trajectories WHERE run_id = $run_id AND round = 0
),
by_problem AS (
    SELECT
        problem_id,
        bool_or(solved) AND NOT bool_and(solved) AS is_mixed,
        count(DISTINCT text_digest) FILTER (solved) AS distinct_right
    FROM attempts
    GROUP BY problem_id
)
SELECT
    (SELECT count(*) FROM by_problem) AS num_problems,
    count(*) AS num_trajectories,
    avg(solved::INTEGER) AS solved_share,
    (SELECT avg(is_mixed::INTEGER) FROM by_problem) AS mixed_share,
    avg((reason = 'truncated')::INTEGER) AS truncated_share,
    avg((reason = 'unparsed')::INTEGER) AS unparsed_share,
    avg((reason IN ('error', 'timeout'))::INTEGER) AS failed_share,
    (SELECT avg(distinct_right) FROM by_problem) AS distinct_right,
    avg(prompt_tokens) AS mean_prompt_tokens,
    avg(num_tokens) AS mean_tokens,
    (SELECT min(seconds / num_tokens) FROM evaluations WHERE run_id = $run_id AND num_tokens > 0) AS evaluated_token_s,
    arg_min(text, md5(trajectory_id), 3) AS texts,
    arg_min(reason, md5(trajectory_id), 3) AS reasons,
    arg_min(prompt, md5(trajectory_id), 3) AS prompts
FROM attempts
JOIN (SELECT problem_id, min(prompt) AS prompt FROM problems GROUP BY problem_id) USING (problem_id)
