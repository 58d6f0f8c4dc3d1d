-- Views of what the tables leave to be worked out. The tables, and comments on columns of current_*, are warehouse.py's.

CREATE VIEW current_runs AS
SELECT * FROM runs
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY created_at DESC) = 1;

COMMENT ON VIEW current_runs IS 'Each run as it stands: its last row.';

CREATE VIEW current_selections AS
SELECT * FROM selections
QUALIFY row_number() OVER (PARTITION BY trajectory_id ORDER BY round DESC, created_at DESC) = 1;

COMMENT ON VIEW current_selections IS 'What is decided on each trajectory: its last decision.';

CREATE VIEW champions AS
SELECT line, arg_max(champion_id, sequence) AS champion_id, max(sequence) AS sequence
FROM promotions
GROUP BY line;

COMMENT ON VIEW champions IS 'Who is champion of each line, by its last promotion.';
COMMENT ON COLUMN champions.line IS 'The line.';
COMMENT ON COLUMN champions.champion_id IS 'The checkpoint that search samples from.';
COMMENT ON COLUMN champions.sequence IS 'The decision that says so.';

CREATE VIEW history AS
WITH benchmarked AS (  -- the gate's evaluation is the first of a candidate
    SELECT * FROM evaluations
    WHERE split = 'benchmark'
    QUALIFY row_number() OVER (PARTITION BY checkpoint_id ORDER BY created_at) = 1
)
SELECT
    rounds.round,
    rounds.line,
    rounds.candidate_id AS candidate,
    rounds.champion_id AS champion,
    benchmarked.accuracy,
    benchmarked.low,
    benchmarked.high,
    benchmarked.num_problems,
    rounds.promoted,
    rounds.reason,
    rounds.seconds,
    rounds.num_tokens AS tokens,
    benchmarked.pass_at_8,
    benchmarked.mean_tokens,
    benchmarked.truncated_share,
    benchmarked.entropy,
    benchmarked.chance,
    benchmarked.brute_force
FROM rounds
LEFT JOIN benchmarked ON benchmarked.checkpoint_id = rounds.candidate_id
ORDER BY rounds.line, rounds.round;

COMMENT ON VIEW history IS 'One row a round: its candidate on the benchmark, and whether it took over.';
COMMENT ON COLUMN history.round IS 'The round; 0 is the initial policy.';
COMMENT ON COLUMN history.line IS 'The line.';
COMMENT ON COLUMN history.candidate IS 'The checkpoint the round made.';
COMMENT ON COLUMN history.champion IS 'The champion after the round.';
COMMENT ON COLUMN history.accuracy IS 'Share of the benchmark the candidate solves with its first answer.';
COMMENT ON COLUMN history.low IS 'Lower end of the 95 % interval of the accuracy.';
COMMENT ON COLUMN history.high IS 'Upper end of it.';
COMMENT ON COLUMN history.num_problems IS 'Benchmark problems asked.';
COMMENT ON COLUMN history.promoted IS 'Whether the candidate took over.';
COMMENT ON COLUMN history.reason IS 'Why, or why not, in a sentence.';
COMMENT ON COLUMN history.seconds IS 'Wall seconds of the round, those before a stop not counted.';
COMMENT ON COLUMN history.tokens IS 'Tokens generated for search and evaluation.';
COMMENT ON COLUMN history.pass_at_8 IS 'Unbiased pass@8 of samples at temperature 1, over fewer problems.';
COMMENT ON COLUMN history.mean_tokens IS 'Mean tokens of an answer.';
COMMENT ON COLUMN history.truncated_share IS 'Share of answers cut off at the token limit.';
COMMENT ON COLUMN history.entropy IS 'Mean -log p of sampled tokens at temperature 1, nats a token.';
COMMENT ON COLUMN history.chance IS 'Solved by uniform legal play on the same problems (Countdown).';
COMMENT ON COLUMN history.brute_force IS 'Mean complete walks that trying everything in order needs (Countdown).';

CREATE VIEW searches AS
WITH attempted AS (
    SELECT
        run_id, line, round, problem_id, checkpoint_id, strategy,
        count(*) AS num_attempts,
        count(*) FILTER (WHERE solved) AS num_solved,
        bool_or(solved AND sample = 0) AS first_solved,
        sum(num_tokens)::BIGINT AS num_tokens
    FROM trajectories
    WHERE shard >= 0  -- what a training sampled for itself is no search
    GROUP BY ALL
),
families AS (
    SELECT parent_id, count(*) AS num_children FROM steps WHERE parent_id <> '' GROUP BY parent_id
),
grown AS (
    SELECT
        run_id, round, problem_id, strategy,
        count(*) - 1 AS num_steps,
        max(depth) AS depth,
        max(num_children) AS width,
        sum(greatest(draws - 1, 0))::BIGINT AS num_duplicates,
        sum(num_tokens)::BIGINT AS num_tokens
    FROM steps
    LEFT JOIN families ON families.parent_id = steps.step_id
    GROUP BY ALL
)
SELECT
    attempted.* EXCLUDE (num_tokens),
    nullif(draws.budget, 0) AS budget,
    coalesce(grown.num_tokens, attempted.num_tokens) AS num_tokens,
    grown.num_steps,
    grown.depth,
    grown.width,
    grown.num_duplicates
FROM attempted
LEFT JOIN grown USING (run_id, round, problem_id, strategy)
LEFT JOIN draws USING (run_id, round, problem_id);

COMMENT ON VIEW searches IS 'One row a problem searched in a round: what was found, and at what cost.';
COMMENT ON COLUMN searches.run_id IS 'The run.';
COMMENT ON COLUMN searches.line IS 'The line.';
COMMENT ON COLUMN searches.round IS 'The round; 0 is before the first round (preflight).';
COMMENT ON COLUMN searches.problem_id IS 'The problem.';
COMMENT ON COLUMN searches.checkpoint_id IS 'The policy that searched.';
COMMENT ON COLUMN searches.strategy IS 'The search strategy and its budget.';
COMMENT ON COLUMN searches.num_attempts IS 'Trajectories it made.';
COMMENT ON COLUMN searches.num_solved IS 'Those that solve the problem.';
COMMENT ON COLUMN searches.first_solved IS 'Whether its first choice does.';
COMMENT ON COLUMN searches.budget IS 'What it might spend, where budgets adapt: attempts (best_of_n), or tokens (trees).';
COMMENT ON COLUMN searches.num_tokens IS 'Tokens generated; what trajectories of a tree share is counted once, duplicates are counted.';
COMMENT ON COLUMN searches.num_steps IS 'Distinct steps of its tree; null where it grew none.';
COMMENT ON COLUMN searches.depth IS 'Most steps from the root of its tree.';
COMMENT ON COLUMN searches.width IS 'Most distinct steps after one step.';
COMMENT ON COLUMN searches.num_duplicates IS 'Steps that were written again where they stood already.';
