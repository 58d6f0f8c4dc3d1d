-- What did each decision about the champion rest on?
-- Candidate and champion answered the same problems: `wins` only the candidate solved, `losses` only the champion, and
-- p_value says how often two equal policies show such a lead.
SELECT
    sequence,
    round,
    verdict,
    wins,
    losses,
    wins - losses AS net,
    p_value,
    alpha,
    decided_by,
    reason
FROM promotions
ORDER BY line, sequence
