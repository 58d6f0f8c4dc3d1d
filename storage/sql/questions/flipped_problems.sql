-- Which benchmark problems did the last candidate miss that the champion before it solved?
-- A few are noise; many of one kind are something that training has unlearnt.
WITH last_decision AS (
    SELECT candidate_id, previous_id
    FROM promotions
    WHERE verdict IN ('promoted', 'refused')
    ORDER BY created_at DESC
    LIMIT 1
),
answers AS (
    SELECT evaluations.checkpoint_id, outcomes.problem_id, outcomes.solved, outcomes.text
    FROM outcomes
    JOIN evaluations USING (evaluation_id)
    WHERE evaluations.split = 'benchmark' AND evaluations.strategy = 'greedy' AND outcomes.sample = 0
)
SELECT DISTINCT
    problems.question,
    problems.difficulty,
    champion.text AS champion_wrote,
    candidate.text AS candidate_wrote
FROM last_decision
JOIN answers AS candidate ON candidate.checkpoint_id = last_decision.candidate_id AND NOT candidate.solved
JOIN answers AS champion
    ON champion.checkpoint_id = last_decision.previous_id
    AND champion.problem_id = candidate.problem_id
    AND champion.solved
JOIN problems ON problems.problem_id = candidate.problem_id
ORDER BY problems.difficulty, problems.question
