select
    outcome || ', ' || speed as outcome_and_speed,
    outcome,
    speed,
    count(*) as leads,
    1.0 * count(read_at) / count(*) as read_rate,
    1.0 * count(replied_at) / count(*) as reply_rate
from {{ ref('journeys') }}
-- A reply is one to a follow-up, so the others have none.
where followed_up_at is not null
group by outcome, speed
