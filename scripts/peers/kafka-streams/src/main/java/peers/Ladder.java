package peers;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/** The fold's constants: the window, and the tiers by rank, of which 0 is the base tier. */
record Ladder(long windowMs, List<String> names, long[] minSpendMinor) {
    static final long DAY_MS = 86_400_000L;

    static Ladder read(Path file) throws IOException {
        JsonNode constants = new ObjectMapper().readTree(file.toFile());
        List<JsonNode> tiers = new ArrayList<>();
        constants.required("tiers").forEach(tiers::add);
        tiers.sort(Comparator.comparingLong(tier -> tier.required("min_spend_minor").longValue()));
        List<String> names = new ArrayList<>();
        names.add(constants.required("base_tier").textValue());
        tiers.forEach(tier -> names.add(tier.required("name").textValue()));
        long[] minSpendMinor = new long[names.size()];
        for (int rank = 1; rank < minSpendMinor.length; rank++) {
            minSpendMinor[rank] = tiers.get(rank - 1).required("min_spend_minor").longValue();
        }
        return new Ladder(constants.required("window_days").longValue() * DAY_MS, names, minSpendMinor);
    }

    /** The rank of the highest tier that a spend reaches. */
    int rankOf(long spend) {
        int rank = minSpendMinor.length - 1;
        while (rank > 0 && minSpendMinor[rank] > spend) {
            rank--;
        }
        return rank;
    }
}
