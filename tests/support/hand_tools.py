"""What the recorded answers that used tools must cost, typed in by hand; the comment of each row is its derivation.

Columns: state, billed USD, estimated USD. Token prices in USD per 1,000,000 are those of `hand_prices` (pricing page of
OpenAI, 2026-11-22); the order is uncached, cached, written, output. Tools, same page: a web search 0.01, a file search
0.0025, a container of 1 GB 0.03 for 20 minutes, so 0.0015 a minute and 0.0075 for the least time of 5. No number here
comes from the product or from the package that seeds its prices.
"""

TOOL_COSTS: dict[str, tuple[str, str, str]] = {
    # 8614*1.75 + 95*14.00; 1 search as the answer counts, at 0.01
    "crmne__ruby_llm:130": ("billed", "0.0264045", "0"),
    # 17248*2.00 + 195*8.00; 1 of 1 items are searches, uncounted, at 0.01
    "posit-dev__chatlas:23": ("estimated", "0.036056", "0.01"),
    # 17508*2.00 + 201*8.00; 1 search as the answer counts, at 0.01
    "posit-dev__chatlas:178": ("billed", "0.046624", "0"),
    # 17248*2.00 + 195*8.00; 1 of 1 items are searches, uncounted, at 0.01
    "posit-dev__chatlas:180": ("estimated", "0.036056", "0.01"),
    # 1144*2.50 + 38*10.00; 1 call at 0.0025
    "pydantic__logfire:7": ("billed", "0.00574", "0"),
    # 1348*1.25 + 624*10.00; 1 runs in 1 container of 1 GB: 5 minutes at 0.0015
    "pydantic__pydantic-ai:1": ("estimated", "0.007925", "0.0075"),
    # 652*2.50 + 44*15.00; nothing for tool_search_call, tool_search_output
    "pydantic__pydantic-ai:4": ("billed", "0.00229", "0"),
    # 21174*1.25 + 1844*10.00; 4 of 4 items are searches, uncounted, at 0.01
    "pydantic__pydantic-ai:5": ("estimated", "0.0449075", "0.04"),
    # 9394*1.25 + 3200*0.125 + 1150*10.00; 2 of 2 items are searches, uncounted, at 0.01
    "pydantic__pydantic-ai:6": ("estimated", "0.0236425", "0.02"),
    # 39550*1.25 + 4352*0.125 + 4474*10.00; 7 of 9 items are searches, uncounted, at 0.01
    "pydantic__pydantic-ai:7": ("estimated", "0.0947215", "0.07"),
    # 580*2.50 + 43*15.00; nothing for tool_search_call, tool_search_output
    "pydantic__pydantic-ai:33": ("billed", "0.002095", "0"),
    # 234*2.50 + 36*15.00; nothing for tool_search_call
    "pydantic__pydantic-ai:35": ("billed", "0.001125", "0"),
    # 234*2.50 + 36*15.00; nothing for tool_search_call
    "pydantic__pydantic-ai:41": ("billed", "0.001125", "0"),
    # 570*2.50 + 26*15.00; nothing for tool_search_call, tool_search_output
    "pydantic__pydantic-ai:44": ("billed", "0.001815", "0"),
    # 570*2.50 + 26*15.00; nothing for tool_search_call, tool_search_output
    "pydantic__pydantic-ai:47": ("billed", "0.001815", "0"),
    # 613*4.00 + 61*20.00; nothing for tool_search_call, tool_search_output
    "pydantic__pydantic-ai:50": ("billed", "0.003672", "0"),
    # 600*2.50 + 47*15.00; nothing for tool_search_call, tool_search_output
    "pydantic__pydantic-ai:52": ("billed", "0.002205", "0"),
    # 600*2.50 + 47*15.00; nothing for tool_search_call, tool_search_output
    "pydantic__pydantic-ai:54": ("billed", "0.002205", "0"),
    # 734*4.00 + 58*20.00; nothing for tool_search_call, tool_search_output
    "pydantic__pydantic-ai:56": ("billed", "0.004096", "0"),
    # 748*4.00 + 72*20.00; nothing for tool_search_call, tool_search_output
    "pydantic__pydantic-ai:60": ("billed", "0.004432", "0"),
    # 28799*1.25 + 4352*0.125 + 3367*10.00; 7 of 7 items are searches, uncounted, at 0.01
    "pydantic__pydantic-ai:66": ("estimated", "0.07021275", "0.07"),
    # 8530*1.75 + 98*14.00; 1 of 1 items are searches, uncounted, at 0.01
    "pydantic__pydantic-ai:202": ("estimated", "0.0162995", "0.01"),
    # 8236*1.75 + 74*14.00; 1 of 1 items are searches, uncounted, at 0.01
    "pydantic__pydantic-ai:203": ("estimated", "0.015449", "0.01"),
    # 12243*1.75 + 140*14.00; 2 of 2 items are searches, uncounted, at 0.01
    "pydantic__pydantic-ai:204": ("estimated", "0.02338525", "0.02"),
    # 8234*1.75 + 79*14.00; 1 of 1 items are searches, uncounted, at 0.01
    "pydantic__pydantic-ai:205": ("estimated", "0.0155155", "0.01"),
    # 1053*1.25 + 1920*0.125 + 707*10.00; 1 runs in 1 container of 1 GB: 5 minutes at 0.0015
    "pydantic__pydantic-ai:212": ("estimated", "0.00862625", "0.0075"),
    # 2822*1.25 + 1792*0.125 + 1844*10.00; 1 runs in 1 container of 1 GB: 5 minutes at 0.0015
    "pydantic__pydantic-ai:213": ("estimated", "0.0221915", "0.0075"),
    # 2772*1.25 + 1166*10.00; 1 runs in 1 container of 1 GB: 5 minutes at 0.0015
    "pydantic__pydantic-ai:214": ("estimated", "0.015125", "0.0075"),
    # 1889*1.25 + 1434*10.00; image tokens are not counted
    "pydantic__pydantic-ai:248": ("unknown", "0.01670125", "0"),
    # 23726*1.25 + 92160*0.125 + 1720*10.00; 6 of 6 items are searches, uncounted, at 0.01
    "pydantic__pydantic-ai:253": ("estimated", "0.0583775", "0.06"),
    # 870*2.50 + 30*10.00; 1 call at 0.0025
    "pydantic__pydantic-ai:254": ("billed", "0.004975", "0"),
    # 1188*2.50 + 55*10.00; 1 call at 0.0025
    "pydantic__pydantic-ai:255": ("billed", "0.00602", "0"),
    # 1177*2.50 + 37*10.00; 1 call at 0.0025
    "pydantic__pydantic-ai:256": ("billed", "0.0058125", "0"),
    # 1178*2.50 + 45*10.00; 1 call at 0.0025
    "pydantic__pydantic-ai:257": ("billed", "0.005895", "0"),
    # 1199*2.00 + 103*8.00; nothing for mcp_list_tools
    "pydantic__pydantic-ai:260": ("billed", "0.003222", "0"),
    # 1207*1.10 + 535*4.40; nothing for mcp_call, mcp_list_tools
    "pydantic__pydantic-ai:261": ("billed", "0.0036817", "0"),
    # 1401*1.10 + 480*4.40; nothing for mcp_call, mcp_list_tools
    "pydantic__pydantic-ai:263": ("billed", "0.0036531", "0"),
    # 1065*1.10 + 760*4.40; nothing for mcp_call, mcp_list_tools
    "pydantic__pydantic-ai:264": ("billed", "0.0045155", "0"),
    # 851*1.25 + 8448*0.125 + 577*10.00; 1 of 1 items are searches, uncounted, at 0.01
    "pydantic__pydantic-ai:272": ("estimated", "0.00788975", "0.01"),
    # 930*1.25 + 8576*0.125 + 439*10.00; 1 of 1 items are searches, uncounted, at 0.01
    "pydantic__pydantic-ai:273": ("estimated", "0.0066245", "0.01"),
    # 1143*1.25 + 8320*0.125 + 582*10.00; 1 of 1 items are searches, uncounted, at 0.01
    "pydantic__pydantic-ai:274": ("estimated", "0.00828875", "0.01"),
    # 1127*1.25 + 8576*0.125 + 638*10.00; 1 of 1 items are searches, uncounted, at 0.01
    "pydantic__pydantic-ai:275": ("estimated", "0.00886075", "0.01"),
    # 22013*1.25 + 1737*10.00; 2 of 4 items are searches, uncounted, at 0.01
    "pydantic__pydantic-ai:276": ("estimated", "0.04488625", "0.02"),
    # 1619*1.25 + 8320*0.125 + 1610*10.00; 1 of 1 items are searches, uncounted, at 0.01
    "pydantic__pydantic-ai:277": ("estimated", "0.01916375", "0.01"),
    # 1143*1.25 + 8320*0.125 + 660*10.00; 1 of 1 items are searches, uncounted, at 0.01
    "pydantic__pydantic-ai:278": ("estimated", "0.00906875", "0.01"),
    # 4158*4.00 + 4418*5.00 + 52*20.00; 1 search as the answer counts, at 0.01
    "pydantic__pydantic-ai:279": ("billed", "0.049762", "0"),
    # 213*1.25 + 1280*0.125 + 125*10.00; 1 runs in 1 container of 1 GB: 5 minutes at 0.0015
    "pydantic__pydantic-ai:307": ("estimated", "0.00167625", "0.0075"),
    # 527*1.25 + 3200*0.125 + 347*10.00; 3 runs in 1 container of 1 GB: 5 minutes at 0.0015
    "pydantic__pydantic-ai:309": ("estimated", "0.00452875", "0.0075"),
    # 17391*2.00 + 45*8.00; 1 search as the answer counts, at 0.01
    "tidyverse__ellmer:54": ("billed", "0.045142", "0"),
    # 642*1.25 + 67*10.00; nothing for apply_patch_call
    "vercel__ai:2": ("billed", "0.0014725", "0"),
    # 642*1.25 + 67*10.00; nothing for apply_patch_call
    "vercel__ai:3": ("billed", "0.0014725", "0"),
    # 65*2.50 + 31*15.00; nothing for tool_search_call
    "vercel__ai:4": ("billed", "0.0006275", "0"),
    # 65*2.50 + 28*15.00; nothing for tool_search_call
    "vercel__ai:5": ("billed", "0.0005825", "0"),
    # 3103*0.05 + 2944*0.005 + 1623*0.40; 3 runs in 1 container of 1 GB: 5 minutes at 0.0015
    "vercel__ai:8": ("estimated", "0.00081907", "0.0075"),
    # 2283*0.05 + 1928*0.40; 3 runs in 1 container of 1 GB: 5 minutes at 0.0015
    "vercel__ai:9": ("estimated", "0.00088535", "0.0075"),
    # 1433*0.25 + 2304*0.025 + 621*2.00; 1 call at 0.0025
    "vercel__ai:14": ("billed", "0.00415785", "0"),
    # 1140*0.25 + 2560*0.025 + 741*2.00; 1 call at 0.0025
    "vercel__ai:15": ("billed", "0.004331", "0"),
    # 1444*0.25 + 2304*0.025 + 543*2.00; 1 call at 0.0025
    "vercel__ai:16": ("billed", "0.0040046", "0"),
    # 1374*0.25 + 2304*0.025 + 536*2.00; 1 call at 0.0025
    "vercel__ai:17": ("billed", "0.0039731", "0"),
    # 1021*1.25 + 1920*0.125 + 1249*10.00; image tokens are not counted
    "vercel__ai:18": ("unknown", "0.01400625", "0"),
    # 3151*0.05 + 1970*0.40; image tokens are not counted
    "vercel__ai:19": ("unknown", "0.00094555", "0"),
    # 407*1.25 + 151*10.00; nothing for local_shell_call
    "vercel__ai:20": ("billed", "0.00201875", "0"),
    # 407*1.25 + 24*10.00; nothing for local_shell_call
    "vercel__ai:21": ("billed", "0.00074875", "0"),
    # 422*0.25 + 48*2.00; nothing for mcp_approval_request, mcp_list_tools
    "vercel__ai:22": ("billed", "0.0002015", "0"),
    # 422*0.25 + 104*2.00; nothing for mcp_approval_request, mcp_list_tools
    "vercel__ai:23": ("billed", "0.0003135", "0"),
    # 553*0.25 + 371*2.00; nothing for mcp_list_tools
    "vercel__ai:24": ("billed", "0.00088025", "0"),
    # 592*0.25 + 421*2.00; nothing for mcp_list_tools
    "vercel__ai:25": ("billed", "0.00099", "0"),
    # 609*0.25 + 48*2.00; nothing for mcp_approval_request, mcp_list_tools
    "vercel__ai:26": ("billed", "0.00024825", "0"),
    # 587*0.25 + 104*2.00; nothing for mcp_approval_request, mcp_list_tools
    "vercel__ai:27": ("billed", "0.00035475", "0"),
    # 779*0.25 + 69*2.00; nothing for mcp_call, mcp_list_tools
    "vercel__ai:28": ("billed", "0.00033275", "0"),
    # 765*0.25 + 74*2.00; nothing for mcp_call, mcp_list_tools
    "vercel__ai:29": ("billed", "0.00033925", "0"),
    # 11791*0.25 + 963*2.00; nothing for mcp_call, mcp_list_tools
    "vercel__ai:30": ("billed", "0.00487375", "0"),
    # 6700*0.25 + 1078*2.00; nothing for mcp_call, mcp_list_tools
    "vercel__ai:31": ("billed", "0.003831", "0"),
    # 200*1.75 + 120*14.00; a container whose memory nobody says
    "vercel__ai:38": ("unknown", "0.00203", "0"),
    # 200*1.75 + 120*14.00; a container whose memory nobody says
    "vercel__ai:39": ("unknown", "0.00203", "0"),
    # 477*1.75 + 1024*0.175 + 314*14.00; a container whose memory nobody says
    "vercel__ai:42": ("unknown", "0.00540995", "0"),
    # 475*1.75 + 1024*0.175 + 331*14.00; a container whose memory nobody says
    "vercel__ai:43": ("unknown", "0.00564445", "0"),
    # 145*1.25 + 41*10.00; the caller's own shell
    "vercel__ai:44": ("billed", "0.00059125", "0"),
    # 157*1.25 + 73*10.00; the caller's own shell
    "vercel__ai:45": ("billed", "0.00092625", "0"),
    # 640*2.50 + 46*15.00; nothing for tool_search_call, tool_search_output
    "vercel__ai:46": ("billed", "0.00229", "0"),
    # 640*2.50 + 46*15.00; nothing for tool_search_call, tool_search_output
    "vercel__ai:47": ("billed", "0.00229", "0"),
    # 27361*0.25 + 3712*0.025 + 4416*2.00; 2 of 6 items are searches, uncounted, at 0.01
    "vercel__ai:48": ("estimated", "0.01576505", "0.02"),
    # 15969*0.25 + 3712*0.025 + 3773*2.00; 1 of 3 items are searches, uncounted, at 0.01
    "vercel__ai:49": ("estimated", "0.01163105", "0.01"),
    # 631*4.00 + 87*20.00; no price is known for programs
    "vercel__ai:51": ("unknown", "0.004264", "0"),
    # 631*4.00 + 139*20.00; no price is known for programs
    "vercel__ai:52": ("unknown", "0.005304", "0"),
    # 757*4.00 + 35*20.00; no price is known for programs
    "vercel__ai:55": ("unknown", "0.003728", "0"),
    # 802*4.00 + 58*20.00; no price is known for programs
    "vercel__ai:56": ("unknown", "0.004368", "0"),
}
