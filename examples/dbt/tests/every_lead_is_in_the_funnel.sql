select *
from (select sum(leads) as leads from {{ ref('funnel_by_day_and_ad') }}) as funnel
cross join (select count(*) as journeys from {{ ref('journeys') }}) as journeys
where leads <> journeys
