-- Pairs to learn preferences from: of two steps after the same prefix, the one below which more answers are right; of two answers, the right one.
-- $line, $round, $window: from the line's newest rounds up to this one.
-- $longest: tokens that an answer may have; a longer one was cut off and is wrong, as is one that fills the model's context.
-- $selection_id: where it has picks, from those instead.
-- $margin: by how much the shares of right ends below two steps must differ.
-- $max_pairs: most pairs of a problem, of each kind.
-- $alike: texts are nearly equal, and no pair, where they differ in less than this share of their characters.
-- $compared: of their first so many.

WITH RECURSIVE picked AS (
    SELECT trajectory_id FROM picks WHERE selection_id = $selection_id
),
reserved AS (
    SELECT DISTINCT problem_id FROM problems WHERE split <> 'train'
),
made AS (
    SELECT trajectory_id, run_id, round, problem_id, checkpoint_id, text, text_digest, token_ids, solved
    FROM trajectories
    ANTI JOIN reserved USING (problem_id)
    WHERE line = $line
      AND len(token_ids) > 0
      AND (stop_reason = 'end' OR num_tokens >= $longest OR (stop_reason = 'length' AND strategy LIKE 'best_of_n%'))  -- others were cut off by a tree's budget, not by the policy
      AND CASE
          WHEN EXISTS (FROM picked) THEN trajectory_id IN (FROM picked)
          ELSE round BETWEEN greatest(1, $round - $window + 1) AND $round
      END
),
grown AS (  -- down from the roots: what was written before each step
    SELECT step_id, parent_id, trajectory_id, problem_id, text, length, num_ends, num_right, 0 AS before, '' AS prefix
    FROM steps
    WHERE parent_id = '' AND (run_id, round, problem_id) IN (SELECT run_id, round, problem_id FROM made)
    UNION ALL
    SELECT
        steps.step_id, steps.parent_id, steps.trajectory_id, steps.problem_id, steps.text, steps.length,
        steps.num_ends, steps.num_right, grown.before + grown.length, grown.prefix || grown.text
    FROM grown
    JOIN steps ON steps.parent_id = grown.step_id
),
steps_made AS (
    SELECT
        grown.*,
        num_right / num_ends AS value,
        made.checkpoint_id,
        token_ids[before + 1:before + length] AS tokens,
        token_ids[1:before] AS prefix_tokens
    FROM grown
    JOIN made USING (trajectory_id)
    WHERE parent_id <> '' AND num_ends > 0 AND length > 0
),
best AS (
    SELECT * FROM steps_made WHERE num_right > 0
    QUALIFY row_number() OVER (PARTITION BY parent_id ORDER BY value DESC, num_ends DESC, step_id) = 1
),
worst AS (
    SELECT * FROM steps_made WHERE num_right < num_ends
    QUALIFY row_number() OVER (PARTITION BY parent_id ORDER BY value, num_ends DESC, step_id) = 1
),
siblings AS (
    SELECT
        'steps' AS kind,
        best.problem_id,
        best.trajectory_id AS chosen_id,
        worst.trajectory_id AS rejected_id,
        best.prefix,
        best.text AS chosen,
        worst.text AS rejected,
        best.prefix_tokens,
        best.tokens AS chosen_tokens,
        worst.tokens AS rejected_tokens,
        best.value - worst.value AS margin,
        [best.checkpoint_id, worst.checkpoint_id] AS checkpoint_ids
    FROM best
    JOIN worst USING (parent_id)
    WHERE best.step_id <> worst.step_id AND best.value - worst.value >= $margin
),
distinct_answers AS (
    SELECT * FROM made
    QUALIFY row_number() OVER (PARTITION BY problem_id, text_digest ORDER BY round DESC, trajectory_id) = 1
),
ranked AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY problem_id, solved ORDER BY round DESC, md5(trajectory_id)) AS place,
        count(*) FILTER (WHERE solved) OVER (PARTITION BY problem_id) AS num_right_ones
    FROM distinct_answers
),
answers AS (
    SELECT
        'answers' AS kind,
        problem_id,
        good.trajectory_id AS chosen_id,
        bad.trajectory_id AS rejected_id,
        '' AS prefix,
        good.text AS chosen,
        bad.text AS rejected,
        []::INTEGER[] AS prefix_tokens,
        good.token_ids AS chosen_tokens,
        bad.token_ids AS rejected_tokens,
        1.0 AS margin,
        [good.checkpoint_id, bad.checkpoint_id] AS checkpoint_ids
    FROM ranked AS good  -- the wrong ones in turn, and with each the next of the right ones
    JOIN ranked AS bad USING (problem_id)
    WHERE good.solved AND NOT bad.solved AND bad.place <= 2 * $max_pairs AND good.place = (bad.place - 1) % good.num_right_ones + 1
),
prompts AS (
    SELECT problem_id, min(prompt) AS prompt FROM problems GROUP BY problem_id
)
SELECT pairs.*, prompt
FROM (FROM siblings UNION ALL FROM answers) AS pairs
JOIN prompts USING (problem_id)
WHERE CASE  -- of long texts the beginning tells, for the time goes by the square of their length
    WHEN abs(length(chosen) - length(rejected)) >= $alike * greatest(length(chosen), length(rejected)) THEN true
    ELSE levenshtein(left(chosen, $compared), left(rejected, $compared))
        >= $alike * least($compared, greatest(length(chosen), length(rejected)))
END
QUALIFY row_number() OVER (
    PARTITION BY problem_id, kind ORDER BY margin DESC, md5(chosen_id || rejected_id || prefix)
) <= $max_pairs
ORDER BY kind, problem_id, chosen_id, rejected_id, prefix
